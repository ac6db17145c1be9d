//! `map`: a variable whose value depends on another value, through a table.
//! <https://nginx.org/en/docs/http/ngx_http_map_module.html>

use crate::{
    ConfResult, Fault, Regex, Subject, Template, VarId,
    args::Args,
    block::{Row, rows},
    hostnames::{Conflict, Hostnames},
    regex::Groups,
    var::{Getter, Variable},
};
use smallvec::SmallVec;
use std::sync::Arc;

/// A compiled table, and the value it is asked for.
struct Map {
    source: Template,
    /// A final dot of the value is not part of the name.
    hostnames: bool,
    names: Hostnames<Template>,
    regexes: Vec<Pattern>,
    default: Option<Template>,
}

struct Pattern {
    regex: Regex,
    /// The variables of its named groups.
    names: Box<[(VarId, usize)]>,
    value: Template,
}

/// Sets `map STRING $variable { … }`: compiles the table and declares the variable.
///
/// # Errors
/// A fault of the directive or of one of its rows, in nginx's words.
pub fn set<S: Subject>(args: &Args<'_, S>) -> ConfResult {
    let source = args.template(0)?;
    let name = args.variable_name(1)?;
    let mut map =
        Map { source, hostnames: false, names: Hostnames::default(), regexes: Vec::new(), default: None };
    let mut volatile = false;
    rows(args, |row| {
        if row.is_word("volatile") {
            volatile = true;
            return Ok(());
        }
        map.add(row, args)
    })?;
    args.vars.define(Variable {
        name: name.into(),
        get: Getter::Dyn(Arc::new(move |subject, out| map.append(subject, out))),
        set: None,
        changeable: true,
        cacheable: !volatile,
    })?;
    Ok(())
}

impl Map {
    fn add<S: Subject>(&mut self, row: &Row<'_>, args: &Args<'_, S>) -> ConfResult {
        if row.is_word("hostnames") {
            self.hostnames = true;
            return Ok(());
        }
        let Some(value) = row.value() else {
            return Err(Fault::message("invalid number of the map parameters"));
        };
        let value = Template::compile(value, args.vars)?;
        let key: &[u8] = &row.key().text;
        if key == b"default" {
            if self.default.replace(value).is_some() {
                return Err(Fault::message("duplicate default map parameter"));
            }
            return Ok(());
        }
        if let Some(pattern) = key.strip_prefix(b"~") {
            let (pattern, caseless) = match pattern {
                [b'*', rest @ ..] => (rest, true),
                _ => (pattern, false),
            };
            let regex = Regex::new(pattern, caseless)?;
            let names = args.vars.define_captures(&regex)?;
            self.regexes.push(Pattern { regex, names, value });
            return Ok(());
        }
        let key = key.strip_prefix(b"\\").unwrap_or(key);
        let added =
            if self.hostnames { self.names.add(key, value) } else { self.names.add_exact(key, value) };
        added.map_err(|conflict| {
            let shown = String::from_utf8_lossy(key);
            Fault::message(match conflict {
                Conflict::Invalid => format!("invalid hostname or wildcard \"{shown}\""),
                Conflict::Known => {
                    format!("conflicting parameter \"{}\"", shown.to_ascii_lowercase())
                }
            })
        })
    }

    fn append<S: Subject>(&self, subject: &S, out: &mut Vec<u8>) -> bool {
        // The value asked for is built behind what is there, and taken away again.
        let start = out.len();
        self.source.append(subject, out);
        if self.hostnames && out.len() > start && out.last() == Some(&b'.') {
            out.pop();
        }
        let found = self.find(subject, out.get(start..).unwrap_or_default());
        out.truncate(start);
        if let Some(value) = found {
            value.append(subject, out);
        }
        // nginx: without a match and a default the value is empty, but it is a value.
        true
    }

    fn find<S: Subject>(&self, subject: &S, key: &[u8]) -> Option<&Template> {
        let lower: SmallVec<[u8; 128]> = key.iter().map(u8::to_ascii_lowercase).collect();
        if let Some(value) = self.names.find(&lower) {
            return Some(value);
        }
        if !key.is_empty() {
            for Pattern { regex, names, value } in &self.regexes {
                let plain = regex.group_count() == 1;
                let mut groups = Groups::new();
                let matched =
                    if plain { regex.try_is_match(key) } else { regex.try_captures(key, &mut groups) };
                match matched {
                    Ok(false) => {}
                    Ok(true) if plain => {
                        subject.keep_captures(&[], groups, &[]);
                        return Some(value);
                    }
                    Ok(true) => {
                        subject.keep_captures(key, groups, names);
                        return Some(value);
                    }
                    Err(failure) => {
                        subject.rule_failed(&failure.describe(regex, key));
                        return self.default.as_ref();
                    }
                }
            }
        }
        self.default.as_ref()
    }
}
