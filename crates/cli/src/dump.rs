//! `--dump-directives` and `--dump-variables`: the program's tables as text, for documentation.

use moonrest_http::module::DirectiveInfo;
use moonrest_server::{Arity, main_directives};
use std::fmt::Write as _;

/// A line per directive: module, name, contexts, arguments.
pub(crate) fn directives() -> String {
    let mut out = String::new();
    let mut row = |module: &str, info: &DirectiveInfo| {
        // Files are included while the text is read, wherever that is.
        let contexts =
            if info.name == "include" { "any".to_owned() } else { info.contexts.names().join(",") };
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{module}\t{}\t{contexts}\t{}", info.name, arguments(info.arity));
    };
    for directive in main_directives() {
        row(directive.module, &directive.info);
    }
    for module in crate::modules::registry() {
        for info in module.directives() {
            row(module.name(), &info);
        }
    }
    out
}

/// A line per variable: module, name with its `$`, whether it may be assigned.
pub(crate) fn variables() -> String {
    let mut out = String::new();
    for module in crate::modules::registry() {
        for variable in module.variables() {
            let writable = if variable.set.is_some() { "yes" } else { "no" };
            let _ = writeln!(out, "{}\t${}\t{writable}", module.name(), variable.name);
        }
    }
    out
}

/// `1`, `0-2`, `1+`; a block is named behind a comma.
fn arguments(arity: Arity) -> String {
    let (min, max) = arity.bounds();
    let words = match (min, max) {
        (min, usize::MAX) => format!("{min}+"),
        (min, max) if min == max => min.to_string(),
        (min, max) => format!("{min}-{max}"),
    };
    match arity {
        Arity::Words { .. } => words,
        Arity::Block { .. } => format!("{words},block"),
        Arity::Lua { .. } => format!("{words},lua"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_has_its_columns() {
        let rows = directives();
        assert!(rows.lines().count() > 50);
        assert!(rows.lines().all(|line| line.split('\t').count() == 4));
        assert!(rows.contains("ngx_core_module\tinclude\tany\t1\n"));
        assert!(rows.contains("ngx_core_module\tworker_processes\tmain\t1\n"));
        assert!(rows.contains("ngx_events_module\tworker_connections\tevents\t1\n"));
        assert!(rows.contains("ngx_http_module\thttp\tmain\t0,block\n"));
        assert!(variables().lines().all(|line| line.split('\t').count() == 3));
    }
}
