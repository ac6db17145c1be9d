//! `cargo xtask docs`: the page of directives, made from the program's tables and the inventory.
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::process::Command;

use crate::run;

const PAGE: &str = "docs/directives.md";
const INVENTORY: &str = "docs/inventory/directives.tsv";

/// A directive of nginx or OpenResty.
#[derive(Debug)]
struct Known {
    subsystem: String,
    module: String,
    name: String,
    syntax: String,
    contexts: String,
    tier: u8,
}

/// A directive the program registers.
#[derive(Debug)]
struct Registered {
    module: String,
    name: String,
    contexts: String,
    args: String,
}

/// Writes the page, or with `check` says whether it is what would be written.
pub(crate) fn docs(check: bool) -> Result<(), String> {
    let binary = run::release_binary()?;
    let dump = run::output(Command::new(binary).arg("--dump-directives"))?;
    let path = run::workspace().join(PAGE);
    let inventory = run::workspace().join(INVENTORY);
    let inventory = std::fs::read_to_string(&inventory).map_err(|error| format!("{INVENTORY}: {error}"))?;
    let page = page(&known(&inventory), &registered(&dump)?);
    if check {
        let current = std::fs::read_to_string(&path).map_err(|error| format!("{PAGE}: {error}"))?;
        return if current == page { Ok(()) } else { Err(format!("{PAGE} is stale: run cargo xtask docs")) };
    }
    std::fs::write(&path, page).map_err(|error| format!("{PAGE}: {error}"))
}

fn known(inventory: &str) -> Vec<Known> {
    let rows = inventory.lines().skip(1).map(|line| line.split('\t').collect::<Vec<_>>());
    rows.filter_map(|row| match row.as_slice() {
        [.., "removed"] => None,
        [subsystem, module, name, syntax, _default, contexts, tier, ..] => Some(Known {
            subsystem: (*subsystem).to_owned(),
            module: (*module).to_owned(),
            name: (*name).to_owned(),
            syntax: (*syntax).to_owned(),
            contexts: (*contexts).to_owned(),
            tier: tier.parse().unwrap_or(4),
        }),
        _ => None,
    })
    .collect()
}

fn registered(dump: &str) -> Result<Vec<Registered>, String> {
    let row = |line: &str| match line.split('\t').collect::<Vec<_>>().as_slice() {
        [module, name, contexts, args] => Ok(Registered {
            module: (*module).to_owned(),
            name: (*name).to_owned(),
            contexts: (*contexts).to_owned(),
            args: (*args).to_owned(),
        }),
        _ => Err(format!("--dump-directives: not four columns: {line:?}")),
    };
    dump.lines().map(row).collect()
}

/// The subsystem of a directive, by its module's name; `events` belongs to what it opens.
fn subsystem(directive: &Registered) -> &'static str {
    let module = directive.module.as_str();
    let is_of = |prefix: &str| module.starts_with(prefix);
    match () {
        () if is_of("ngx_http") || is_of("ndk_http") || is_of("ngx_coolkit") || is_of("ngx_postgres") => {
            "http"
        }
        () if is_of("ngx_stream") => "stream",
        () if is_of("ngx_mail") => "mail",
        () if is_of("ngx_event") || is_of("ngx_epoll") || directive.name == "events" => "events",
        () => "core",
    }
}

fn page(known: &[Known], registered: &[Registered]) -> String {
    let present: BTreeSet<(&str, &str)> =
        registered.iter().map(|directive| (subsystem(directive), directive.name.as_str())).collect();
    let is_present =
        |directive: &&Known| present.contains(&(directive.subsystem.as_str(), directive.name.as_str()));
    let mut out = String::from(
        "# Directives\n\nMade by `cargo xtask docs` from the program's tables and [the inventory](inventory/README.md); \
         not edited by hand.\n\n",
    );
    let _ = writeln!(out, "| Tier | Known | Registered | Missing |\n|---|---|---|---|");
    for tier in 1..=4 {
        let of_tier: Vec<&Known> = known.iter().filter(|directive| directive.tier == tier).collect();
        let here = of_tier.iter().filter(|directive| is_present(directive)).count();
        let _ = writeln!(out, "| {tier} | {} | {here} | {} |", of_tier.len(), of_tier.len() - here);
    }
    out.push_str("\n## Registered\n");
    let mut modules: BTreeMap<&str, Vec<&Registered>> = BTreeMap::new();
    for directive in registered {
        modules.entry(&directive.module).or_default().push(directive);
    }
    for (module, directives) in modules {
        let _ = writeln!(
            out,
            "\n### {module}\n\n| Directive | Arguments | Contexts | Syntax |\n|---|---|---|---|"
        );
        for directive in directives {
            let Registered { name, contexts, args, .. } = directive;
            let here = subsystem(directive);
            let twin = known.iter().find(|known| known.name == *name && known.subsystem == here);
            let syntax = twin.map_or_else(|| "(Moonrest only)".to_owned(), |known| escaped(&known.syntax));
            let _ = writeln!(
                out,
                "| `{name}` | {} | {} | {syntax} |",
                escaped(args),
                contexts.replace(',', ", ")
            );
        }
    }
    out.push_str("\n## Missing\n\nBy module; the number is the tier.\n\n| Subsystem | Module | Missing | Directives |\n|---|---|---|---|\n");
    let mut missing: BTreeMap<(&str, &str), Vec<&Known>> = BTreeMap::new();
    for directive in known.iter().filter(|directive| !is_present(directive)) {
        missing.entry((&directive.subsystem, &directive.module)).or_default().push(directive);
    }
    for ((subsystem, module), mut directives) in missing {
        directives.sort_by(|a, b| (a.tier, &a.name).cmp(&(b.tier, &b.name)));
        let names: Vec<String> =
            directives.iter().map(|directive| format!("`{}` {}", directive.name, directive.tier)).collect();
        let of_module = |known: &&Known| known.module == module && known.subsystem == subsystem;
        let whole = directives.len() == known.iter().filter(of_module).count();
        let count = if whole { format!("all {}", directives.len()) } else { directives.len().to_string() };
        let _ = writeln!(out, "| {subsystem} | {module} | {count} | {} |", names.join(", "));
    }
    let unknown: Vec<&Registered> = registered
        .iter()
        .filter(|directive| !known.iter().any(|known| known.name == directive.name))
        .collect();
    if !unknown.is_empty() {
        let names: Vec<String> = unknown.iter().map(|directive| format!("`{}`", directive.name)).collect();
        let _ = writeln!(out, "\n## Not in nginx or OpenResty\n\n{}", names.join(", "));
    }
    let differing = differing_contexts(known, registered);
    if !differing.is_empty() {
        out.push_str("\n## Other contexts than nginx has\n\n| Directive | Here | There |\n|---|---|---|\n");
        for (name, here, there) in differing {
            let _ = writeln!(out, "| `{name}` | {here} | {there} |");
        }
    }
    out
}

/// Directives that are accepted in other places than the inventory says.
fn differing_contexts(known: &[Known], registered: &[Registered]) -> Vec<(String, String, String)> {
    let set = |contexts: &str| contexts.split(',').map(str::to_owned).collect::<BTreeSet<String>>();
    let list = |contexts: BTreeSet<String>| contexts.into_iter().collect::<Vec<_>>().join(", ");
    let differs = |directive: &Registered| {
        let here = set(&directive.contexts);
        let twins = known
            .iter()
            .filter(|known| known.name == directive.name && known.subsystem == subsystem(directive));
        let there: BTreeSet<String> = twins.flat_map(|known| set(&known.contexts)).collect();
        (!there.is_empty() && here != there).then(|| (directive.name.clone(), list(here), list(there)))
    };
    registered.iter().filter_map(differs).collect()
}

fn escaped(text: &str) -> String {
    if text == "-" { String::new() } else { format!("`{}`", text.replace('|', "\\|")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INVENTORY: &str = "subsystem\tmodule\tdirective\tsyntax\tdefault\tcontexts\ttier\targs\tstatus
http\tngx_http_a_module\tone\ton | off\toff\thttp,server\t1\tflag\toss
http\tngx_http_a_module\ttwo\t<n>\t-\thttp\t3\t1\toss
stream\tngx_stream_a_module\tone\ton | off\toff\tstream\t2\tflag\toss
";

    #[test]
    fn present_and_missing_directives_are_told_apart_by_subsystem() {
        let registered = registered("ngx_http_a_module\tone\thttp,server\tflag\n").unwrap();
        let page = page(&known(INVENTORY), &registered);
        assert!(page.contains("| `one` | `flag` | http, server | `on \\| off` |"), "{page}");
        assert!(page.contains("| http | ngx_http_a_module | 1 | `two` 3 |"), "{page}");
        assert!(page.contains("| stream | ngx_stream_a_module | all 1 | `one` 2 |"), "{page}");
        assert!(!page.contains("## Other contexts"), "{page}");
    }

    #[test]
    fn contexts_that_differ_are_listed() {
        let registered = registered("ngx_http_a_module\ttwo\thttp,location\t1\n").unwrap();
        assert!(page(&known(INVENTORY), &registered).contains("| `two` | http, location | http |"));
    }

    #[test]
    fn a_broken_dump_is_an_error() {
        assert!(registered("one two\n").is_err());
    }
}
