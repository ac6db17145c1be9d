//! A linter for what compilers do not see: names, first lines, reasons, words that do not belong here.
use std::fs;
use std::path::{Path, PathBuf};

use moonrest_testkit::server::workspace;

/// Names that say nothing about what a file holds.
const STRAY_NAMES: &[&str] = &["utils", "util", "common", "helpers", "helper", "types", "misc"];

/// Files past this length must be split.
const LONGEST_FILE: usize = 1000;

/// What may be longer: tables that are written by hand or made by a program.
const TABLES: &[&str] = &["Cargo.lock", "docs/directives.md", "docs/inventory/directives.tsv"];

struct File {
    name: String,
    text: String,
}

impl File {
    fn is(&self, extension: &str) -> bool {
        Path::new(&self.name).extension().is_some_and(|found| found == extension)
    }

    fn stem(&self) -> &str {
        Path::new(&self.name).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default()
    }

    /// Numbered lines for which `wrong` gives a reason.
    fn lines_where<'a>(
        &'a self,
        wrong: impl Fn(&str) -> Option<String> + 'a,
    ) -> impl Iterator<Item = String> + 'a {
        let lines = self.text.lines().enumerate();
        lines.filter_map(move |(number, line)| {
            wrong(line).map(|why| format!("{}:{}: {why}", self.name, number + 1))
        })
    }
}

/// The repository's text files.
fn files() -> Vec<File> {
    let root = workspace();
    let mut found = Vec::new();
    let mut directories = vec![root.clone()];
    while let Some(directory) = directories.pop() {
        let mut entries: Vec<PathBuf> = fs::read_dir(&directory)
            .expect("a directory")
            .map(|entry| entry.expect("an entry").path())
            .collect();
        entries.sort();
        for path in entries {
            let name =
                path.strip_prefix(&root).expect("a path below the root").to_string_lossy().into_owned();
            let skipped = name.starts_with(".git/")
                || matches!(name.as_str(), ".git" | "fuzz/seeds" | "fuzz/corpus" | "fuzz/artifacts");
            if skipped || path.file_name().is_some_and(|name| name == "target") || path.is_symlink() {
                continue;
            }
            if path.is_dir() {
                directories.push(path);
            } else if let Ok(text) = fs::read_to_string(&path) {
                found.push(File { name, text });
            }
        }
    }
    found
}

#[track_caller]
fn assert_none(what: &str, found: impl IntoIterator<Item = String>) {
    let found: Vec<String> = found.into_iter().collect();
    assert!(found.is_empty(), "{what}:\n{}", found.join("\n"));
}

#[test]
fn first_lines_say_what_a_file_is() {
    let undocumented = |file: &File| match () {
        () if file.is("rs") => !file.text.starts_with("//! "),
        () if file.is("pl") || file.is("conf") => !file.text.starts_with("# "),
        () => false,
    };
    assert_none("no first line", files().into_iter().filter(undocumented).map(|file| file.name));
}

#[test]
fn names_say_what_a_file_holds() {
    // A directive of nginx may have such a name (`types`); its file then links the page.
    let linked =
        |file: &File| file.text.lines().take(3).any(|line| line.ends_with(&format!("#{}>", file.stem())));
    let stray = |file: &File| file.is("rs") && STRAY_NAMES.contains(&file.stem()) && !linked(file);
    assert_none("stray names", files().into_iter().filter(stray).map(|file| file.name));
}

#[test]
fn no_file_is_too_long() {
    let long = |file: &File| {
        let code = ["rs", "pl", "md"].iter().any(|extension| file.is(extension));
        code && file.text.lines().count() > LONGEST_FILE && !TABLES.contains(&file.name.as_str())
    };
    assert_none("too long", files().into_iter().filter(long).map(|file| file.name));
}

#[test]
fn kept_oddities_have_a_reason() {
    let wrong = |line: &str| {
        let (_, reason) = line.split_once(concat!("// ", "nginx:"))?;
        (reason.trim().len() < 10).then(|| "a mark without its reason".to_owned())
    };
    let rust: Vec<File> = files().into_iter().filter(|file| file.is("rs")).collect();
    assert_none("empty reasons", rust.iter().flat_map(|file| file.lines_where(wrong)));
}

#[test]
fn nothing_is_left_undone() {
    // Written in two halves, so that this list does not find itself.
    let words = [concat!("to", "do!("), concat!("unimpl", "emented!("), concat!("#[ig", "nore")];
    let wrong = |line: &str| words.iter().find(|word| line.contains(*word)).map(|word| format!("has {word}"));
    let rust: Vec<File> = files().into_iter().filter(|file| file.is("rs")).collect();
    assert_none("undone", rust.iter().flat_map(|file| file.lines_where(wrong)));
}

#[test]
fn no_machine_is_named() {
    let words = [concat!("/wo", "rk/"), concat!("/fa", "rm/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];
    let wrong = |line: &str| {
        let begins =
            |at: usize| !line[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || "._-}*".contains(c));
        words.iter().find(|word| line.find(*word).is_some_and(begins)).map(|word| format!("names {word}"))
    };
    let all = files();
    assert_none("machine paths", all.iter().flat_map(|file| file.lines_where(wrong)));
}

#[test]
fn every_module_is_in_the_table() {
    let directory = workspace().join("crates/http-modules/src");
    let table = fs::read_to_string(directory.join("lib.rs")).expect("the table");
    let modules = fs::read_dir(&directory)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").path())
        .filter_map(|path| {
            let name = path.file_stem()?.to_str()?.to_owned();
            (!matches!(name.as_str(), "lib" | "prelude")).then_some(name)
        });
    // A private file serves the modules; a public one is a module.
    let unregistered = |name: &String| {
        let private = table.contains(&format!("\nmod {name};"));
        let listed = table.contains(&format!("pub mod {name};")) && table.contains(&format!("{name}::"));
        !private && !listed
    };
    assert_none("not in lib.rs", modules.filter(unregistered));
}

#[test]
fn every_specification_can_be_read() {
    let wrong = |file: &File| {
        let header = file.text.split("\n__DATA__\n").next().unwrap_or_default();
        let complete = file.text.contains("\n__DATA__\n") && header.contains("run_tests();");
        file.is("t") && !(header.starts_with("# ") && complete)
    };
    assert_none(
        "no header, or no line saying what it is",
        files().into_iter().filter(wrong).map(|file| file.name),
    );
}
