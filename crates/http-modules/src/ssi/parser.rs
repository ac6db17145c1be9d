//! Finds SSI commands in a page that comes in parts, cut anywhere.
//!
//! ```text
//! Text ─<!--#─▶ Name ─▶ (Gap ─▶ Key ─▶ Equals ─▶ Value ─▶ Closed)* ─▶ Dash ─▶ Dash2 ─>─▶ Text
//!                  any of them ─ what must not stand there ─▶ Error ─▶ ErrorDash ─▶ ErrorDash2 ─>─▶ Text
//! ```

use bytes::Bytes;

/// What begins a command.
const OPEN: &[u8] = b"<!--#";
/// nginx's limits on names, and on the number of parameters.
const NAME_LENGTH: usize = 32;
const MAX_PARAMETERS: usize = 16;

/// What stands next in the page.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    Text(Bytes),
    Command(Command),
    /// Something that looked like a command; why it is none, for the log.
    Invalid(String),
}

/// A command with its parameters as written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Command {
    pub(super) name: Vec<u8>,
    pub(super) parameters: Vec<(Vec<u8>, Vec<u8>)>,
    /// There were more than are kept.
    pub(super) too_many: bool,
}

impl Command {
    /// The command as it could have been written, for a block that is output later.
    pub(super) fn append_text(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(OPEN);
        out.extend_from_slice(&self.name);
        for (key, value) in &self.parameters {
            out.push(b' ');
            out.extend_from_slice(key);
            out.extend_from_slice(b"=\"");
            out.extend_from_slice(value);
            out.push(b'"');
        }
        out.extend_from_slice(b" -->");
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// So many bytes of [`OPEN`] were seen at the end of the last part.
    Text(usize),
    BeforeName,
    Name,
    /// Between parameters.
    Gap,
    Key,
    AfterKey,
    BeforeValue,
    Value(u8),
    /// Behind a backslash.
    Escaped(u8),
    Closed,
    Dash,
    Dash2,
    Error,
    ErrorDash,
    ErrorDash2,
}

/// The search through one page.
pub(super) struct Parser {
    input: Bytes,
    at: usize,
    state: State,
    command: Command,
    /// The parameter being read.
    key: Vec<u8>,
    value: Vec<u8>,
    error: String,
    /// `ssi_value_length`.
    value_length: usize,
}

const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\r' | b'\n' | b'\t')
}

fn lossy(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

impl Parser {
    pub(super) fn new(value_length: usize) -> Self {
        Self {
            input: Bytes::new(),
            at: 0,
            state: State::Text(0),
            command: Command::default(),
            key: Vec::new(),
            value: Vec::new(),
            error: String::new(),
            value_length,
        }
    }

    /// Takes the next part of the page, when [`Parser::next`] has dealt with the one before.
    pub(super) fn take(&mut self, data: Bytes) {
        self.input = data;
        self.at = 0;
    }

    /// Whether a part of the page is still to be looked at.
    pub(super) fn has_input(&self) -> bool {
        self.at < self.input.len()
    }

    /// What was held back because it looked like the beginning of a command, when the page ends or is interrupted here.
    pub(super) fn held(&mut self) -> Option<Bytes> {
        match self.state {
            State::Text(seen @ 1..) => {
                self.state = State::Text(0);
                Some(opening(seen))
            }
            _ => None,
        }
    }

    /// The next event; `None` when more of the page must come first.
    pub(super) fn next(&mut self) -> Option<Event> {
        while let Some(&byte) = self.input.get(self.at) {
            let event = match self.state {
                State::Text(0) => self.text(),
                State::Text(seen) => self.opening(seen, byte),
                _ => {
                    self.at += 1;
                    self.step(byte)
                }
            };
            if event.is_some() {
                return event;
            }
        }
        None
    }

    /// Text up to the next command, or to what may become one.
    fn text(&mut self) -> Option<Event> {
        let start = self.at;
        let mut from = start;
        let (end, next) = loop {
            let rest = self.input.get(from..).unwrap_or_default();
            let Some(found) = memchr::memchr(b'<', rest) else {
                break (self.input.len(), State::Text(0));
            };
            let begin = from + found;
            let rest = self.input.get(begin..).unwrap_or_default();
            if rest.starts_with(OPEN) {
                self.at = begin + OPEN.len();
                break (begin, State::BeforeName);
            }
            if OPEN.starts_with(rest) {
                self.at = self.input.len();
                break (begin, State::Text(rest.len()));
            }
            from = begin + 1;
        };
        if next == State::Text(0) {
            self.at = end;
        }
        self.state = next;
        (end > start).then(|| Event::Text(self.input.slice(start..end)))
    }

    /// Whether a beginning that was cut goes on.
    fn opening(&mut self, seen: usize, byte: u8) -> Option<Event> {
        if OPEN.get(seen) == Some(&byte) {
            self.at += 1;
            let seen = seen + 1;
            self.state = if seen == OPEN.len() { State::BeforeName } else { State::Text(seen) };
            return None;
        }
        self.state = State::Text(0);
        Some(Event::Text(opening(seen)))
    }

    fn step(&mut self, byte: u8) -> Option<Event> {
        self.state = match self.state {
            State::BeforeName if is_space(byte) => State::BeforeName,
            State::BeforeName => {
                self.command = Command { name: vec![byte], ..Command::default() };
                State::Name
            }
            State::Name => self.in_name(byte),
            State::Gap | State::Closed if is_space(byte) => State::Gap,
            State::Gap | State::Closed if byte == b'-' => State::Dash,
            State::Gap => {
                self.key = vec![byte];
                State::Key
            }
            State::Closed => self.behind_value(byte),
            State::Key => self.in_key(byte),
            State::AfterKey if is_space(byte) => State::AfterKey,
            State::AfterKey if byte == b'=' => State::BeforeValue,
            State::AfterKey => self.unexpected(byte, "after"),
            State::BeforeValue if is_space(byte) => State::BeforeValue,
            State::BeforeValue if matches!(byte, b'"' | b'\'') => {
                self.value.clear();
                State::Value(byte)
            }
            State::BeforeValue => self.unexpected(byte, "before value of"),
            State::Value(quote) if byte == quote => {
                self.keep_parameter();
                State::Closed
            }
            State::Value(quote) if byte == b'\\' => self.in_value(byte, State::Escaped(quote)),
            State::Value(quote) | State::Escaped(quote) => self.in_value(byte, State::Value(quote)),
            State::Dash if byte == b'-' => State::Dash2,
            State::Dash2 if byte == b'>' => {
                self.state = State::Text(0);
                return Some(Event::Command(std::mem::take(&mut self.command)));
            }
            State::Dash | State::Dash2 => {
                self.error = format!(
                    "unexpected \"{}\" symbol in \"{}\" SSI command",
                    lossy(&[byte]),
                    lossy(&self.command.name)
                );
                State::Error
            }
            State::Error | State::ErrorDash | State::ErrorDash2 => return self.in_error(byte),
            State::Text(_) => return None,
        };
        None
    }

    fn in_name(&mut self, byte: u8) -> State {
        if is_space(byte) {
            return State::Gap;
        }
        if byte == b'-' {
            return State::Dash;
        }
        if self.command.name.len() == NAME_LENGTH {
            self.error =
                format!("the \"{}{}...\" SSI command is too long", lossy(&self.command.name), lossy(&[byte]));
            return State::Error;
        }
        self.command.name.push(byte);
        State::Name
    }

    fn in_key(&mut self, byte: u8) -> State {
        match byte {
            b'=' => State::BeforeValue,
            b'-' => self.unexpected(byte, "after"),
            byte if is_space(byte) => State::AfterKey,
            byte if self.key.len() == NAME_LENGTH => {
                self.error = format!(
                    "too long \"{}{}...\" parameter in \"{}\" SSI command",
                    lossy(&self.key),
                    lossy(&[byte]),
                    lossy(&self.command.name)
                );
                State::Error
            }
            byte => {
                self.key.push(byte);
                State::Key
            }
        }
    }

    fn in_value(&mut self, byte: u8, next: State) -> State {
        if self.value.len() == self.value_length {
            self.error = format!(
                "too long \"{}{}...\" value of \"{}\" parameter in \"{}\" SSI command",
                lossy(&self.value),
                lossy(&[byte]),
                lossy(&self.key),
                lossy(&self.command.name)
            );
            return State::Error;
        }
        self.value.push(byte);
        next
    }

    fn unexpected(&mut self, byte: u8, place: &str) -> State {
        self.error = format!(
            "unexpected \"{}\" symbol {place} \"{}\" parameter in \"{}\" SSI command",
            lossy(&[byte]),
            lossy(&self.key),
            lossy(&self.command.name)
        );
        if byte == b'-' { State::ErrorDash } else { State::Error }
    }

    fn behind_value(&mut self, byte: u8) -> State {
        let (key, value) =
            self.command.parameters.last().map_or((&[][..], &[][..]), |(key, value)| (key, value));
        self.error = format!(
            "unexpected \"{}\" symbol after \"{}\" value of \"{}\" parameter in \"{}\" SSI command",
            lossy(&[byte]),
            lossy(value),
            lossy(key),
            lossy(&self.command.name)
        );
        State::Error
    }

    fn keep_parameter(&mut self) {
        if self.command.parameters.len() == MAX_PARAMETERS {
            self.command.too_many = true;
            return;
        }
        self.command.parameters.push((std::mem::take(&mut self.key), std::mem::take(&mut self.value)));
    }

    fn in_error(&mut self, byte: u8) -> Option<Event> {
        self.state = match (self.state, byte) {
            (State::Error, b'-') => State::ErrorDash,
            // Any number of dashes may stand before the end.
            (State::ErrorDash | State::ErrorDash2, b'-') => State::ErrorDash2,
            (State::ErrorDash2, b'>') => {
                self.state = State::Text(0);
                return Some(Event::Invalid(std::mem::take(&mut self.error)));
            }
            _ => State::Error,
        };
        None
    }
}

fn opening(seen: usize) -> Bytes {
    Bytes::from_static(OPEN.get(..seen).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shows the events of a page, cut into parts of every length.
    fn check(page: &str, expect: &str) {
        for step in 1..=page.len() {
            let mut parser = Parser::new(10);
            let mut shown = String::new();
            for part in page.as_bytes().chunks(step) {
                parser.take(Bytes::copy_from_slice(part));
                while let Some(event) = parser.next() {
                    match event {
                        Event::Text(text) => shown += &lossy(&text),
                        Event::Command(command) => {
                            shown += &format!("[{}", lossy(&command.name));
                            for (key, value) in &command.parameters {
                                shown += &format!(" {}:{}", lossy(key), lossy(value));
                            }
                            shown += "]";
                        }
                        Event::Invalid(why) => shown += &format!("({why})"),
                    }
                }
                assert!(!parser.has_input());
            }
            shown += &parser.held().map_or_else(String::new, |text| lossy(&text).into_owned());
            assert_eq!(shown, expect, "{page}, {step} at a time");
        }
    }

    #[test]
    fn commands_are_found_across_parts() {
        check("a<!--#echo var=\"x\" -->b", "a[echo var:x]b");
        check("<!--# echo  var = 'x' default=\"\"-->", "[echo var:x default:]");
        check("<!--#endif-->", "[endif]");
        check("<<!--#a --><!--#b -->", "<[a][b]");
        check("<!<!-<!--<!--x<!-- # -->", "<!<!-<!--<!--x<!-- # -->");
        check("x<!--", "x<!--");
        check("<!--#set var='a\\'b\"' -->", "[set var:a\\'b\"]");
        check("<!--#never ends", "");
    }

    #[test]
    fn what_is_wrong_is_told_and_skipped() {
        check("<!--#a b -->c", "(unexpected \"-\" symbol after \"b\" parameter in \"a\" SSI command)c");
        check(
            "<!--#a b=c -->d",
            "(unexpected \"c\" symbol before value of \"b\" parameter in \"a\" SSI command)d",
        );
        check(
            "<!--#a b=\"12345678901\" -->c",
            "(too long \"12345678901...\" value of \"b\" parameter in \"a\" SSI command)c",
        );
        check("<!--#a -x--->c", "(unexpected \"x\" symbol in \"a\" SSI command)c");
        check(
            "<!--#aaaaaaaaaabbbbbbbbbbccccccccccddd -->",
            "(the \"aaaaaaaaaabbbbbbbbbbccccccccccddd...\" SSI command is too long)",
        );
    }

    /// All events of a page given in these parts, texts put together.
    fn events<'a>(parts: impl Iterator<Item = &'a [u8]>) -> Vec<Event> {
        let mut parser = Parser::new(6);
        let mut events: Vec<Event> = Vec::new();
        let mut add = |event| match (events.last_mut(), event) {
            (Some(Event::Text(before)), Event::Text(text)) => *before = [&before[..], &text].concat().into(),
            (_, event) => events.push(event),
        };
        for part in parts {
            parser.take(Bytes::copy_from_slice(part));
            while let Some(event) = parser.next() {
                add(event);
            }
        }
        if let Some(held) = parser.held() {
            add(Event::Text(held));
        }
        events
    }

    proptest::proptest! {
        #[test]
        fn cuts_change_nothing(
            page in proptest::collection::vec(proptest::sample::select(&b"<<!----##>>a b='\"\\"[..]), 0..120),
            step in 1usize..9,
        ) {
            proptest::prop_assert_eq!(events(page.chunks(step)), events(std::iter::once(&page[..])));
        }
    }

    #[test]
    fn memory_is_bounded() {
        let mut parser = Parser::new(10);
        parser.take(Bytes::from(format!("<!--#a {} -->", "b=\"c\" ".repeat(10_000))));
        let Some(Event::Command(command)) = parser.next() else { panic!("no command") };
        assert!(command.too_many);
        assert_eq!(command.parameters.len(), MAX_PARAMETERS);
    }
}
