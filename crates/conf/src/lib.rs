//! The nginx.conf language: lexer, parser, include, spans, values and diagnostics. Knows no directive.
