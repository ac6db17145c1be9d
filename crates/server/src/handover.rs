//! What the master opened, as a value: kept for a serving process that must be started again, and as a message to
//! the one that runs.
//!
//! ```text
//! G root files globs logs directories sockets  a generation     (descriptors: logs, then sockets)
//! R names                                     logs opened anew  (descriptors: one per name)
//! Q   T                                       quit, stop
//! ```
//! Back come `S` (the generation serves) and `F` with a text (it does not).

use crate::listeners::Group;
use moonrest_sys::{
    fdpass::Message,
    listen::{ListenAddr, SocketKind},
    path,
};
use std::{
    fs::File,
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The answers that the compilation of a configuration got. Errors are kept by their number.
#[derive(Default)]
pub(crate) struct Record {
    pub files: Vec<(PathBuf, Result<Vec<u8>, i32>)>,
    pub globs: Vec<(PathBuf, Vec<PathBuf>)>,
    pub logs: Vec<(PathBuf, File)>,
    pub directories: Vec<PathBuf>,
    /// Whether root compiled it.
    pub privileged: bool,
}

/// A socket without its options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub addr: ListenAddr,
    pub kind: SocketKind,
}

/// Sockets by place.
pub(crate) type Sockets = Vec<(Place, Vec<Arc<OwnedFd>>)>;

/// What the master says.
pub(crate) enum Order {
    Generation(Record, Sockets),
    Reopen(Vec<(PathBuf, File)>),
    Quit,
    Stop,
}

/// What the serving process says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Serving,
    Failed(String),
}

/// The sockets of a generation.
pub(crate) fn sockets(groups: &[Group]) -> Sockets {
    let place = |group: &Group| Place { addr: group.spec.addr.clone(), kind: group.spec.kind };
    groups.iter().map(|group| (place(group), group.shards.clone())).collect()
}

/// A generation as a message.
///
/// # Errors
/// Those of `dup`.
pub(crate) fn generation(record: &Record, groups: &[Group]) -> io::Result<Message> {
    let mut out = Writer(vec![b'G']);
    let mut fds = Vec::new();
    out.number(u32::from(record.privileged));
    out.list(&record.files, |out, (name, text)| {
        out.path(name);
        match text {
            Ok(text) => {
                out.number(0);
                out.bytes(text);
            }
            Err(code) => out.number(u32::try_from(*code).unwrap_or(libc::EIO as u32)),
        }
    });
    out.list(&record.globs, |out, (pattern, names)| {
        out.path(pattern);
        out.list(names, |out, name| out.path(name));
    });
    out.list(&record.logs, |out, (name, _)| out.path(name));
    for (_, file) in &record.logs {
        fds.push(file.try_clone()?.into());
    }
    out.list(&record.directories, |out, name| out.path(name));
    out.list(groups, |out, group| {
        match &group.spec.addr {
            ListenAddr::Inet(addr) => out.bytes(addr.to_string().as_bytes()),
            ListenAddr::Unix(path) => out.bytes(&[b"unix:", path.as_slice()].concat()),
        }
        out.number(u32::from(group.spec.kind == SocketKind::Udp));
        out.number(u32::try_from(group.shards.len()).unwrap_or(u32::MAX));
    });
    for shard in groups.iter().flat_map(|group| &group.shards) {
        fds.push(shard.try_clone()?);
    }
    Ok(Message { bytes: out.0, fds })
}

/// Logs that were opened anew, as a message.
///
/// # Errors
/// Those of `dup`.
pub(crate) fn reopened(logs: &[(PathBuf, File)]) -> io::Result<Message> {
    let mut out = Writer(vec![b'R']);
    out.list(logs, |out, (name, _)| out.path(name));
    let fds = logs.iter().map(|(_, file)| file.try_clone().map(OwnedFd::from));
    Ok(Message { bytes: out.0, fds: fds.collect::<io::Result<_>>()? })
}

/// The order to finish, or to end at once.
pub(crate) fn end(now: bool) -> Message {
    Message { bytes: vec![if now { b'T' } else { b'Q' }], fds: Vec::new() }
}

/// Reads an order; `None` for what this module did not write.
pub(crate) fn order(message: Message) -> Option<Order> {
    let (kind, rest) = message.bytes.split_first()?;
    let mut input = Reader(rest);
    let mut fds = message.fds.into_iter();
    match kind {
        b'G' => read_generation(&mut input, &mut fds),
        b'R' => {
            let names = input.list(Reader::path)?;
            let logs = names.into_iter().map(|name| Some((name, File::from(fds.next()?))));
            Some(Order::Reopen(logs.collect::<Option<_>>()?))
        }
        b'Q' => Some(Order::Quit),
        b'T' => Some(Order::Stop),
        _ => None,
    }
}

fn read_generation(input: &mut Reader<'_>, fds: &mut impl Iterator<Item = OwnedFd>) -> Option<Order> {
    let mut record = Record {
        privileged: input.number()? == 1,
        files: input.list(|input| {
            let name = input.path()?;
            let text = match input.number()? {
                0 => Ok(input.bytes()?.to_vec()),
                code => Err(i32::try_from(code).ok()?),
            };
            Some((name, text))
        })?,
        globs: input.list(|input| Some((input.path()?, input.list(Reader::path)?)))?,
        ..Record::default()
    };
    for name in input.list(Reader::path)? {
        record.logs.push((name, File::from(fds.next()?)));
    }
    record.directories = input.list(Reader::path)?;
    let places = input.list(|input| {
        let text = input.bytes()?;
        let addr = match text.strip_prefix(b"unix:") {
            Some(path) => ListenAddr::Unix(path.to_vec()),
            None => ListenAddr::Inet(std::str::from_utf8(text).ok()?.parse().ok()?),
        };
        let kind = if input.number()? == 1 { SocketKind::Udp } else { SocketKind::Tcp };
        Some((Place { addr, kind }, input.number()?))
    })?;
    let mut sockets = Sockets::new();
    for (place, count) in places {
        let shards = (0..count).map(|_| fds.next().map(Arc::new)).collect::<Option<_>>()?;
        sockets.push((place, shards));
    }
    Some(Order::Generation(record, sockets))
}

impl Answer {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Serving => b"S".to_vec(),
            Self::Failed(text) => [b"F", text.as_bytes()].concat(),
        }
    }

    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        match bytes.split_first()? {
            (b'S', []) => Some(Self::Serving),
            (b'F', text) => Some(Self::Failed(String::from_utf8_lossy(text).into_owned())),
            _ => None,
        }
    }
}

struct Writer(Vec<u8>);

impl Writer {
    fn number(&mut self, number: u32) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        self.0.extend_from_slice(bytes);
    }

    fn path(&mut self, name: &Path) {
        self.bytes(path::to_bytes(name));
    }

    fn list<T>(&mut self, items: &[T], write: impl Fn(&mut Self, &T)) {
        self.number(u32::try_from(items.len()).unwrap_or(u32::MAX));
        for item in items {
            write(self, item);
        }
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn number(&mut self) -> Option<u32> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_le_bytes(*number))
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.number()?).ok()?;
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(bytes)
    }

    fn path(&mut self) -> Option<PathBuf> {
        path::from_bytes(self.bytes()?).ok().map(Path::to_owned)
    }

    fn list<T>(&mut self, mut read: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = self.number()?;
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(read(self)?);
        }
        Some(items)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use moonrest_sys::listen::ListenSpec;

    fn null() -> File {
        File::open("/dev/null").unwrap()
    }

    fn generation_message() -> Message {
        let record = Record {
            files: vec![("/a".into(), Ok(b"text".to_vec())), ("/b".into(), Err(2))],
            globs: vec![("/c/*".into(), vec!["/c/1".into(), "/c/2".into()])],
            logs: vec![("/log".into(), null())],
            directories: vec!["/tmp/x".into()],
            privileged: true,
        };
        let group = |addr| Group {
            spec: ListenSpec::new(addr),
            shards: (0..2).map(|_| Arc::new(null().into())).collect(),
        };
        let groups = [
            group(ListenAddr::Inet("[::1]:80".parse().unwrap())),
            group(ListenAddr::Unix(b"/s\xff".to_vec())),
        ];
        generation(&record, &groups).unwrap()
    }

    #[test]
    fn a_generation_comes_back_as_it_was() {
        let Some(Order::Generation(record, sockets)) = order(generation_message()) else { panic!() };
        assert_eq!(record.files[0], ("/a".into(), Ok(b"text".to_vec())));
        assert_eq!(record.files[1], ("/b".into(), Err(2)));
        assert_eq!(record.globs[0].1.len(), 2);
        assert_eq!(record.logs[0].0, Path::new("/log"));
        assert_eq!(record.directories, [PathBuf::from("/tmp/x")]);
        assert_eq!(sockets[0].0.addr.to_string(), "[::1]:80");
        assert_eq!(sockets[1].0.addr, ListenAddr::Unix(b"/s\xff".to_vec()));
        assert!(sockets.iter().all(|(_, shards)| shards.len() == 2));
    }

    #[test]
    fn a_message_cut_anywhere_is_refused() {
        let whole = generation_message();
        for len in 0..whole.bytes.len() {
            let bytes = whole.bytes[..len].to_vec();
            assert!(order(Message { bytes, fds: Vec::new() }).is_none(), "{len}");
        }
        let without = Message { bytes: whole.bytes.clone(), fds: Vec::new() };
        assert!(order(without).is_none(), "descriptors are missing");
    }

    #[test]
    fn answers_come_back() {
        for answer in [Answer::Serving, Answer::Failed("why".to_owned())] {
            assert_eq!(Answer::read(&answer.to_bytes()), Some(answer));
        }
        assert_eq!(Answer::read(b""), None);
        assert_eq!(Answer::read(b"X"), None);
    }
}
