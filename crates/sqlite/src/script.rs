//! Where statements end, so that they can be run one by one.

/// The first statement of a script with what ends it, and the rest.
pub(crate) fn split_first(script: &str) -> (&str, &str) {
    let bytes = script.as_bytes();
    let (mut at, mut words) = (0, Words::default());
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b';' if words.is_end() => {
                let (first, rest) = script.split_at(at + 1);
                return (first, rest);
            }
            b';' => {
                words.semicolon();
                at += 1;
            }
            b'\'' | b'"' | b'`' => at = behind(bytes, at + 1, byte, &mut words),
            b'[' => at = behind(bytes, at + 1, b']', &mut words),
            b'-' if bytes.get(at + 1) == Some(&b'-') => at = find(bytes, at, b"\n"),
            b'/' if bytes.get(at + 1) == Some(&b'*') => at = find(bytes, at + 2, b"*/"),
            b'_' | b'a'..=b'z' | b'A'..=b'Z' | 0x80.. => {
                let len = bytes[at..].iter().take_while(|byte| is_word(**byte)).count();
                words.word(&script[at..at + len]);
                at += len;
            }
            byte => {
                if !byte.is_ascii_whitespace() {
                    words.other();
                }
                at += 1;
            }
        }
    }
    (script, "")
}

/// Whether there is nothing in it to be run.
pub(crate) fn is_blank(script: &str) -> bool {
    let bytes = script.as_bytes();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'-' if bytes.get(at + 1) == Some(&b'-') => at = find(bytes, at, b"\n"),
            b'/' if bytes.get(at + 1) == Some(&b'*') => at = find(bytes, at + 2, b"*/"),
            byte if byte.is_ascii_whitespace() || byte == b';' => at += 1,
            _ => return false,
        }
    }
    true
}

fn is_word(byte: u8) -> bool {
    byte == b'_' || byte == b'$' || byte.is_ascii_alphanumeric() || byte >= 0x80
}

/// Behind a quoted text; a quote in it is written twice, which here looks like two texts.
fn behind(bytes: &[u8], from: usize, quote: u8, words: &mut Words) -> usize {
    words.other();
    bytes.iter().skip(from).position(|byte| *byte == quote).map_or(bytes.len(), |len| from + len + 1)
}

/// Behind the first `end` from there.
fn find(bytes: &[u8], from: usize, end: &[u8]) -> usize {
    let rest = bytes.get(from..).unwrap_or_default();
    rest.windows(end.len()).position(|window| window == end).map_or(bytes.len(), |at| from + at + end.len())
}

/// What the words so far make of a semicolon: in `CREATE TRIGGER` only one that comes after `; END` ends the statement.
#[derive(Default)]
struct Words {
    seen: u32,
    create: bool,
    trigger: bool,
    after_semicolon: bool,
    after_end: bool,
}

impl Words {
    fn word(&mut self, word: &str) {
        let is = |name: &str| word.eq_ignore_ascii_case(name);
        match self.seen {
            0 if is("explain") => return,
            0 => self.create = is("create"),
            1 if self.create && (is("temp") || is("temporary")) => return,
            1 => self.trigger = self.create && is("trigger"),
            _ => {}
        }
        self.seen = self.seen.saturating_add(1);
        self.after_end = self.after_semicolon && is("end");
        self.after_semicolon = false;
    }

    fn other(&mut self) {
        self.seen = self.seen.max(2);
        self.after_semicolon = false;
        self.after_end = false;
    }

    fn semicolon(&mut self) {
        self.after_semicolon = true;
        self.after_end = false;
    }

    fn is_end(&self) -> bool {
        !self.trigger || self.after_end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(script: &str, expected: &[&str]) {
        let (mut rest, mut found) = (script, Vec::new());
        while !is_blank(rest) {
            let (first, behind) = split_first(rest);
            found.push(first.trim());
            rest = behind;
        }
        assert_eq!(found, expected);
    }

    #[test]
    fn statements_end_at_semicolons_that_are_not_part_of_something() {
        check("select 1", &["select 1"]);
        check("select 1; select 2;", &["select 1;", "select 2;"]);
        check(";; -- nothing\n /* ; */ ", &[]);
        check(
            "select ';', \";\", `;`, [;], 'it''s;' -- ;\n; x",
            &["select ';', \";\", `;`, [;], 'it''s;' -- ;\n;", "x"],
        );
        check("select /* ; */ 1; select 'open ;", &["select /* ; */ 1;", "select 'open ;"]);
    }

    #[test]
    fn a_trigger_ends_with_its_end() {
        let trigger = "CREATE TEMP TRIGGER t AFTER INSERT ON x BEGIN UPDATE y SET a = CASE WHEN 1 THEN 2 END; \
                       DELETE FROM z; END;";
        check(&format!("{trigger} select 1;"), &[trigger, "select 1;"]);
        check("create table trigger(a); end;", &["create table trigger(a);", "end;"]);
    }
}
