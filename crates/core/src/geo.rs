//! `geo`: a variable whose value depends on an address, through networks or ranges.
//! <https://nginx.org/en/docs/http/ngx_http_geo_module.html>

use crate::{
    ConfResult, Fault, Subject, VarId,
    args::Args,
    block::{Row, rows},
    cidr::{Cidr, parse_ip, parse_ipv4},
    var::{Getter, Variable},
};
use hashbrown::HashMap;
use moonrest_conf::{Span, Word};
use moonrest_net::addr::Addr;
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

/// What a subsystem tells about its subjects' addresses.
pub struct Source<S> {
    /// Calls back with the client's address.
    pub client: fn(&S) -> Addr,
    /// The address that trusted proxies forward for; `None` where there is no such thing, and no `proxy` parameter.
    pub forwarded: Option<Forwarded<S>>,
}

/// Given the peer's address, the trusted proxies, and whether to follow more than one.
pub type Forwarded<S> = fn(&S, Addr, &[Cidr], bool) -> Addr;

/// A value's place in [`Geo::values`].
type ValueId = u32;

/// The compiled variable.
struct Geo<S> {
    source: Source<S>,
    /// The variable that holds the address, instead of the client's.
    address: Option<VarId>,
    proxies: Vec<Cidr>,
    recursive: bool,
    v4: Spans<u32>,
    /// Ranges know IPv4 only.
    v6: Option<Spans<u128>>,
    values: Vec<Box<[u8]>>,
}

/// Sets `geo [$address] $variable { … }`.
///
/// # Errors
/// A fault of the directive or of one of its rows, in nginx's words.
pub fn set<S: Subject>(args: &Args<'_, S>, source: Source<S>) -> ConfResult {
    let (address, name) = if args.len() == 2 {
        let address = args.vars.reference(args.variable_name(0)?, Some(args.span()));
        (Some(address), args.variable_name(1)?)
    } else {
        (None, args.variable_name(0)?)
    };
    let mut builder = Builder { warn: &|message, span| args.env.warn(message, Some(span)), ..Builder::new() };
    let proxies_known = source.forwarded.is_some();
    rows(args, |row| builder.add(row, proxies_known))?;
    let volatile = builder.volatile;
    let geo = builder.build(source, address);
    args.vars.define(Variable {
        name: name.into(),
        get: Getter::Dyn(Arc::new(move |subject, out| geo.append(subject, out))),
        set: None,
        changeable: true,
        cacheable: !volatile,
    })?;
    Ok(())
}

impl<S: Subject> Geo<S> {
    fn append(&self, subject: &S, out: &mut Vec<u8>) -> bool {
        let value = match self.ip(subject, out) {
            Some(IpAddr::V4(ip)) => self.v4.find(ip.to_bits()),
            Some(IpAddr::V6(ip)) if self.v6.is_some() => {
                self.v6.as_ref().and_then(|spans| spans.find(ip.to_bits()))
            }
            // nginx: what has no address of the right kind counts as the broadcast address.
            _ => self.v4.find(u32::MAX),
        };
        let value = value.and_then(|id| self.values.get(id as usize));
        out.extend_from_slice(value.map_or(&[], |value| value));
        true
    }

    /// The address looked up; `None` for unix sockets and for texts that are no addresses.
    fn ip(&self, subject: &S, out: &mut Vec<u8>) -> Option<IpAddr> {
        let addr = match self.address {
            None => (self.source.client)(subject),
            Some(id) => {
                let start = out.len();
                let found = subject.vars().append(subject, id, out);
                let ip = if found { parse_ip(out.get(start..).unwrap_or_default()) } else { None };
                out.truncate(start);
                Addr::Inet(SocketAddr::new(ip?, 0))
            }
        };
        if self.proxies.is_empty() {
            return addr.canonical_ip();
        }
        match self.source.forwarded {
            Some(forwarded) => forwarded(subject, addr, &self.proxies, self.recursive).canonical_ip(),
            None => addr.canonical_ip(),
        }
    }
}

/// Values of consecutive addresses: each value is in force from its address up to the next one's.
struct Spans<A> {
    starts: Box<[A]>,
    values: Box<[Option<ValueId>]>,
}

impl<A: Ord + Copy> Spans<A> {
    fn find(&self, at: A) -> Option<ValueId> {
        let after = self.starts.partition_point(|start| *start <= at);
        self.values.get(after.checked_sub(1)?).copied().flatten()
    }

    /// From spans in order, dropping those that change nothing.
    fn new(spans: impl IntoIterator<Item = (A, Option<ValueId>)>) -> Self {
        let (mut starts, mut values): (Vec<A>, Vec<Option<ValueId>>) = (Vec::new(), Vec::new());
        for (start, value) in spans {
            if starts.last() == Some(&start) {
                starts.pop();
                values.pop();
            }
            if values.last() != Some(&value) {
                starts.push(start);
                values.push(value);
            }
        }
        Self { starts: starts.into(), values: values.into() }
    }
}

/// An address as a number.
trait Bits: Ord + Copy {
    const ZERO: Self;
    /// The last address of the network that begins here.
    fn last(self, prefix: u8) -> Self;
    fn next(self) -> Option<Self>;
}

impl Bits for u32 {
    const ZERO: Self = 0;
    fn last(self, prefix: u8) -> Self {
        self | Self::MAX.checked_shr(prefix.into()).unwrap_or(0)
    }
    fn next(self) -> Option<Self> {
        self.checked_add(1)
    }
}

impl Bits for u128 {
    const ZERO: Self = 0;
    fn last(self, prefix: u8) -> Self {
        self | Self::MAX.checked_shr(prefix.into()).unwrap_or(0)
    }
    fn next(self) -> Option<Self> {
        self.checked_add(1)
    }
}

/// Networks with their values; in the order of this map, a network stands before those inside it.
type Networks<A> = BTreeMap<(A, u8), ValueId>;

/// The value at each address is that of the smallest network it lies in.
fn flatten<A: Bits>(networks: &Networks<A>) -> Spans<A> {
    let mut spans = vec![(A::ZERO, None)];
    // The networks around the present address with their last addresses, innermost last.
    let mut open: Vec<(A, ValueId)> = Vec::new();
    let close = |open: &mut Vec<(A, ValueId)>, spans: &mut Vec<(A, Option<ValueId>)>| {
        let Some((last, _)) = open.pop() else { return };
        if let Some(next) = last.next() {
            spans.push((next, open.last().map(|(_, value)| *value)));
        }
    };
    for (&(start, prefix), &value) in networks {
        while open.last().is_some_and(|(last, _)| *last < start) {
            close(&mut open, &mut spans);
        }
        spans.push((start, Some(value)));
        open.push((start.last(prefix), value));
    }
    while !open.is_empty() {
        close(&mut open, &mut spans);
    }
    Spans::new(spans)
}

/// A block while its rows are read.
struct Builder<'a> {
    warn: &'a dyn Fn(String, Span),
    ranges: bool,
    volatile: bool,
    recursive: bool,
    proxies: Vec<Cidr>,
    v4: Networks<u32>,
    v6: Networks<u128>,
    /// Whether a row that is a network or `default` was read.
    has_networks: bool,
    table: Ranges,
    default: Option<ValueId>,
    values: Vec<Box<[u8]>>,
    ids: HashMap<Box<[u8]>, ValueId>,
}

impl Builder<'_> {
    fn new() -> Self {
        Self {
            warn: &|_, _| {},
            ranges: false,
            volatile: false,
            recursive: false,
            proxies: Vec::new(),
            v4: BTreeMap::new(),
            v6: BTreeMap::new(),
            has_networks: false,
            table: Ranges::default(),
            default: None,
            values: Vec::new(),
            ids: HashMap::new(),
        }
    }

    fn add(&mut self, row: &Row<'_>, proxies_known: bool) -> ConfResult {
        if row.is_word("ranges") {
            if self.has_networks {
                return Err(Fault::message(
                    "the \"ranges\" directive must be the first directive inside \"geo\" block",
                ));
            }
            self.ranges = true;
            return Ok(());
        }
        if row.is_word("volatile") {
            self.volatile = true;
            return Ok(());
        }
        if proxies_known && row.is_word("proxy_recursive") {
            self.recursive = true;
            return Ok(());
        }
        let Some(value) = row.value() else {
            return Err(Fault::message("invalid number of the geo parameters"));
        };
        if proxies_known && *row.key() == *"proxy" {
            let network = self.network(value)?;
            self.proxies.push(network);
            return Ok(());
        }
        if self.ranges { self.range(row.key(), value) } else { self.cidr(row.key(), value) }
    }

    fn network(&self, word: &Word) -> ConfResult<Cidr> {
        if &*word.text == b"255.255.255.255" {
            return Ok(Cidr::host(IpAddr::V4(Ipv4Addr::BROADCAST)));
        }
        let parsed = Cidr::parse(&word.text)
            .ok_or_else(|| Fault::message(format!("invalid network \"{}\"", word.lossy())))?;
        if parsed.low_bits {
            (self.warn)(format!("low address bits of {} are meaningless", word.lossy()), word.span);
        }
        Ok(parsed.cidr)
    }

    fn value(&mut self, text: &[u8]) -> ValueId {
        if let Some(id) = self.ids.get(text) {
            return *id;
        }
        let id = ValueId::try_from(self.values.len()).unwrap_or(ValueId::MAX);
        self.values.push(text.into());
        self.ids.insert(text.into(), id);
        id
    }

    fn shown(&self, id: ValueId) -> String {
        self.values.get(id as usize).map_or_else(String::new, |value| String::from_utf8_lossy(value).into())
    }

    fn cidr(&mut self, key: &Word, value: &Word) -> ConfResult {
        self.has_networks = true;
        if *key == *"default" {
            let id = self.value(&value.text);
            let old = self.v4.insert((0, 0), id);
            self.warn_duplicate_network(key, id, old);
            let old = self.v6.insert((0, 0), id);
            self.warn_duplicate_network(key, id, old);
            return Ok(());
        }
        if *key == *"delete" {
            let deleted = match self.network(value)? {
                Cidr::V4 { addr, mask } => self.v4.remove(&(addr, ones(mask.count_ones()))),
                Cidr::V6 { addr, mask } => self.v6.remove(&(addr, ones(mask.count_ones()))),
                Cidr::Unix => None,
            };
            if deleted.is_none() {
                (self.warn)(format!("no network \"{}\" to delete", value.lossy()), value.span);
            }
            return Ok(());
        }
        let network = self.network(key)?;
        let id = self.value(&value.text);
        let old = match network {
            Cidr::V4 { addr, mask } => self.v4.insert((addr, ones(mask.count_ones())), id),
            Cidr::V6 { addr, mask } => self.v6.insert((addr, ones(mask.count_ones())), id),
            Cidr::Unix => None,
        };
        self.warn_duplicate_network(key, id, old);
        Ok(())
    }

    fn warn_duplicate_network(&self, key: &Word, id: ValueId, old: Option<ValueId>) {
        if let Some(old) = old {
            let (net, new, old) = (key.lossy(), self.shown(id), self.shown(old));
            let message = format!("duplicate network \"{net}\", value: \"{new}\", old value: \"{old}\"");
            (self.warn)(message, key.span);
        }
    }

    fn range(&mut self, key: &Word, value: &Word) -> ConfResult {
        if *key == *"default" {
            if let Some(old) = self.default {
                let (new, old) = (value.lossy(), self.shown(old));
                let message = format!("duplicate default geo range value: \"{new}\", old value: \"{old}\"");
                (self.warn)(message, key.span);
            }
            self.default = Some(self.value(&value.text));
            return Ok(());
        }
        let delete = *key == *"delete";
        let net = if delete { value } else { key };
        let (start, end) = parse_range(&net.text)
            .ok_or_else(|| Fault::message(format!("invalid range \"{}\"", net.lossy())))?;
        if delete {
            if !self.table.delete(start, end) {
                (self.warn)(format!("no address range \"{}\" to delete", net.lossy()), net.span);
            }
            return Ok(());
        }
        let id = self.value(&value.text);
        let mut replaced = Vec::new();
        let added = self.table.add(start, end, id, |old| replaced.push(old));
        for old in replaced {
            let (net, new, old) = (net.lossy(), self.shown(id), self.shown(old));
            let message = format!("duplicate range \"{net}\", value: \"{new}\", old value: \"{old}\"");
            (self.warn)(message, key.span);
        }
        added.map_err(|(start, end)| {
            let (start, end) = (Ipv4Addr::from_bits(start), Ipv4Addr::from_bits(end));
            Fault::message(format!("range \"{}\" overlaps \"{start}-{end}\"", net.lossy()))
        })
    }

    fn build<S>(self, source: Source<S>, address: Option<VarId>) -> Geo<S> {
        let (v4, v6) = if self.ranges {
            (self.table.flatten(self.default), None)
        } else {
            (flatten(&self.v4), Some(flatten(&self.v6)))
        };
        Geo { source, address, proxies: self.proxies, recursive: self.recursive, v4, v6, values: self.values }
    }
}

fn ones(count: u32) -> u8 {
    u8::try_from(count).unwrap_or(128)
}

/// `first-last`, both IPv4.
fn parse_range(text: &[u8]) -> Option<(u32, u32)> {
    let dash = memchr::memchr(b'-', text)?;
    let start = parse_ipv4(text.get(..dash)?)?.to_bits();
    let last = text.get(dash + 1..)?;
    // nginx: the broadcast address cannot be written, so a range ends one before it at most.
    let end = parse_ipv4(last)?.to_bits();
    (start <= end).then_some((start, end))
}

/// Ranges that do not overlap, cut at every 65536 addresses: nginx's rules for adding and deleting go by these pieces.
#[derive(Default)]
struct Ranges {
    /// By first address: last address and value.
    pieces: BTreeMap<u32, (u32, ValueId)>,
}

impl Ranges {
    /// Adds a range; `replaced` hears of equal pieces it takes the place of. A piece that lies within an older one
    /// splits that.
    ///
    /// # Errors
    /// The older piece that it overlaps otherwise.
    fn add(
        &mut self,
        start: u32,
        end: u32,
        value: ValueId,
        mut replaced: impl FnMut(ValueId),
    ) -> Result<(), (u32, u32)> {
        for (first, last) in pieces(start, end) {
            let known = self.pieces.range(..=last).next_back().map(|(a, (b, old))| (*a, *b, *old));
            match known.filter(|(_, b, _)| *b >= first) {
                None => {}
                Some((a, b, old)) if a == first && b == last => replaced(old),
                Some((a, b, old)) if a <= first && last <= b => {
                    if a < first {
                        self.pieces.insert(a, (first - 1, old));
                    }
                    if last < b {
                        self.pieces.insert(last + 1, (b, old));
                    }
                }
                Some((a, b, _)) => return Err((a, b)),
            }
            self.pieces.insert(first, (last, value));
        }
        Ok(())
    }

    /// Deletes the pieces of a range; `false` when one of them is not there.
    fn delete(&mut self, start: u32, end: u32) -> bool {
        let mut all = true;
        for (first, last) in pieces(start, end) {
            if self.pieces.get(&first).is_some_and(|(known, _)| *known == last) {
                self.pieces.remove(&first);
            } else {
                all = false;
            }
        }
        all
    }

    fn flatten(&self, default: Option<ValueId>) -> Spans<u32> {
        let mut spans = vec![(0, default)];
        for (&start, &(end, value)) in &self.pieces {
            spans.push((start, Some(value)));
            if let Some(next) = end.checked_add(1) {
                spans.push((next, default));
            }
        }
        Spans::new(spans)
    }
}

/// The parts of `start..=end` between multiples of 65536.
fn pieces(start: u32, end: u32) -> impl Iterator<Item = (u32, u32)> {
    (start >> 16..=end >> 16).map(move |high| ((high << 16).max(start), (high << 16 | 0xffff).min(end)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> u32 {
        parse_ipv4(text.as_bytes()).unwrap().to_bits()
    }

    #[test]
    fn the_smallest_network_counts() {
        let mut networks = Networks::new();
        let mut add = |text: &str, value| {
            let Some(Cidr::V4 { addr, mask }) = Cidr::parse(text.as_bytes()).map(|parsed| parsed.cidr) else {
                panic!("{text}");
            };
            networks.insert((addr, ones(mask.count_ones())), value);
        };
        add("10.0.0.0/8", 1);
        add("10.1.0.0/16", 2);
        add("10.1.0.0/24", 3);
        add("10.1.255.0/24", 4);
        add("11.0.0.0/8", 5);
        add("255.0.0.0/8", 6);
        let spans = flatten(&networks);
        let check = |text: &str, expect| assert_eq!(spans.find(ip(text)), expect, "{text}");
        check("9.255.255.255", None);
        check("10.0.0.0", Some(1));
        check("10.1.0.255", Some(3));
        check("10.1.1.0", Some(2));
        check("10.1.255.9", Some(4));
        check("10.2.0.0", Some(1));
        check("11.0.0.1", Some(5));
        check("12.0.0.0", None);
        assert_eq!(spans.find(u32::MAX), Some(6));
        networks.insert((0, 0), 7);
        assert_eq!(flatten(&networks).find(ip("12.0.0.0")), Some(7));
    }

    #[test]
    fn ranges_split_what_they_lie_in_and_refuse_to_overlap() {
        let mut ranges = Ranges::default();
        let add = |ranges: &mut Ranges, from: &str, to: &str, value| {
            let mut old = Vec::new();
            ranges.add(ip(from), ip(to), value, |id| old.push(id)).map(|()| old)
        };
        assert_eq!(add(&mut ranges, "10.0.0.0", "10.2.0.255", 1), Ok(vec![]));
        assert_eq!(add(&mut ranges, "10.1.0.0", "10.1.0.255", 2), Ok(vec![]));
        assert_eq!(add(&mut ranges, "10.1.0.5", "10.1.0.9", 3), Ok(vec![]));
        assert_eq!(add(&mut ranges, "10.1.0.5", "10.1.0.9", 4), Ok(vec![3]));
        assert_eq!(add(&mut ranges, "10.1.0.8", "10.1.0.12", 5), Err((ip("10.1.0.10"), ip("10.1.0.255"))));
        let spans = ranges.flatten(Some(0));
        let check = |text: &str, expect| assert_eq!(spans.find(ip(text)), Some(expect), "{text}");
        check("9.9.9.9", 0);
        check("10.0.0.0", 1);
        check("10.1.0.4", 2);
        check("10.1.0.5", 4);
        check("10.1.0.10", 2);
        check("10.1.1.0", 1);
        check("10.2.0.255", 1);
        check("10.2.1.0", 0);
        assert!(ranges.delete(ip("10.0.0.0"), ip("10.0.255.255")));
        assert!(!ranges.delete(ip("10.0.0.0"), ip("10.0.255.255")));
        assert!(!ranges.delete(ip("10.2.0.0"), ip("10.2.0.1")));
    }
}
