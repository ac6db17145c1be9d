//! Questions and answers of the domain name system. The bytes are hickory's work; here is what is believed of them.

use super::ResolveError;
use hickory_proto::{
    op::{Message, MessageType, OpCode, Query},
    rr::{DNSClass, Name, RData, RecordType},
};
use std::{
    net::{IpAddr, Ipv6Addr},
    rc::Rc,
};

/// What is asked of a name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Kind {
    /// A and AAAA.
    Address,
    /// SRV.
    Service,
    /// PTR.
    Name,
}

/// What a name has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Addresses(Rc<[IpAddr]>),
    Services(Vec<Service>),
    Name(Rc<str>),
    /// It stands for another name (CNAME), which must be asked for next.
    Alias(Rc<str>),
    /// It exists and has nothing of the kind.
    Nothing,
}

/// An SRV record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Service {
    pub priority: u16,
    pub weight: u16,
    pub port: u16,
    pub host: Rc<str>,
}

/// A question as it is sent.
pub(super) struct Question {
    pub id: u16,
    pub bytes: Vec<u8>,
    kind: RecordType,
    name: Name,
}

/// What a datagram or message means for a question.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Answer(Result<(Found, u32), ResolveError>),
    /// Ask again over TCP.
    Truncated,
    /// Not an answer, or none that can be used: an error line, and waiting goes on.
    Ignore(String),
}

impl Question {
    /// A question with an id that cannot be guessed; `None` for what is no name.
    pub(super) fn new(name: &str, kind: RecordType) -> Option<Self> {
        let parsed = Name::from_labels(name.split('.').map(str::as_bytes)).ok()?;
        let id = u16::try_from(moonrest_sys::random::number().ok()? & 0xffff).ok()?;
        let mut message = Message::new(id, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        let mut query = Query::query(parsed.clone(), kind);
        query.set_query_class(DNSClass::IN);
        message.add_query(query);
        Some(Self { id, bytes: message.to_vec().ok()?, kind, name: parsed })
    }

    /// Judges what came from the server that was asked.
    pub(super) fn judge(&self, bytes: &[u8]) -> Verdict {
        let ignore = |line: &str| Verdict::Ignore(line.to_owned());
        if bytes.len() < 12 {
            return ignore("short DNS response");
        }
        let shown = text(&self.name);
        let Ok(answer) = Message::from_vec(bytes) else {
            return Verdict::Ignore(format!("invalid DNS response for {shown}"));
        };
        let head = &answer.metadata;
        if head.message_type != MessageType::Response || head.op_code != OpCode::Query {
            return Verdict::Ignore(format!("invalid UDP DNS response {}", head.id));
        }
        if head.id != self.id {
            return Verdict::Ignore(format!(
                "wrong ident {} in DNS response for {shown}, expect {}",
                head.id, self.id
            ));
        }
        let code = u16::from(head.response_code);
        // nginx: a server that does not understand is asked again, another one first.
        if code == 1 || code > 5 {
            let error = ResolveError::of(code);
            return Verdict::Ignore(format!(
                "DNS error ({code}: {}), query id:{}, name:\"{shown}\"",
                error.reason(),
                head.id
            ));
        }
        let [query] = answer.queries.as_slice() else {
            return ignore("invalid number of questions in DNS response");
        };
        if !query.name.eq_ignore_root(&self.name)
            || query.query_type != self.kind
            || query.query_class != DNSClass::IN
        {
            return Verdict::Ignore(format!("unexpected DNS response for {}", text(&query.name)));
        }
        if head.truncation {
            return Verdict::Truncated;
        }
        if code != 0 {
            return Verdict::Answer(Err(ResolveError::of(code)));
        }
        Verdict::Answer(Ok(self.read(&answer)))
    }

    /// Follows the aliases within an answer and takes what its last name has; other records are not believed.
    fn read(&self, answer: &Message) -> (Found, u32) {
        let (mut name, mut ttl, mut aliased) = (&self.name, u32::MAX, false);
        let records = || answer.answers.iter().filter(|record| record.dns_class == DNSClass::IN);
        for _ in 0..answer.answers.len() {
            let alias = records().find_map(|record| match &record.data {
                RData::CNAME(target) if record.name.eq_ignore_root(name) => Some((&target.0, record.ttl)),
                _ => None,
            });
            let Some((target, valid)) = alias else { break };
            (name, ttl, aliased) = (target, ttl.min(valid), true);
        }
        let (mut ips, mut services, mut names) = (Vec::new(), Vec::new(), None);
        for record in records().filter(|record| record.name.eq_ignore_root(name)) {
            match (&record.data, self.kind) {
                (RData::A(ip), RecordType::A) => ips.push(IpAddr::V4(ip.0)),
                (RData::AAAA(ip), RecordType::AAAA) => ips.push(IpAddr::V6(ip.0)),
                (RData::SRV(srv), RecordType::SRV) => services.push(Service {
                    priority: srv.priority,
                    weight: srv.weight,
                    port: srv.port,
                    host: text(&srv.target),
                }),
                (RData::PTR(target), RecordType::PTR) if names.is_none() => names = Some(text(&target.0)),
                _ => continue,
            }
            ttl = ttl.min(record.ttl);
        }
        // A validity with its highest bit set counts as none (RFC 2181, section 8).
        let ttl = if ttl > i32::MAX.unsigned_abs() { 0 } else { ttl };
        let found = match (ips.is_empty(), services.is_empty(), names) {
            (false, _, _) => Found::Addresses(ips.into()),
            (_, false, _) => Found::Services(services),
            (_, _, Some(name)) => Found::Name(name),
            _ if aliased => Found::Alias(text(name)),
            _ => Found::Nothing,
        };
        (found, ttl)
    }
}

/// A name in lower case, without its final dot.
fn text(name: &Name) -> Rc<str> {
    name.to_lowercase().to_ascii().trim_end_matches('.').into()
}

/// The name under which the name of an address is found.
pub(super) fn arpa(ip: IpAddr) -> Rc<str> {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa").into()
        }
        IpAddr::V6(ip) => arpa_v6(ip),
    }
}

fn arpa_v6(ip: Ipv6Addr) -> Rc<str> {
    let mut name = String::with_capacity(72);
    for byte in ip.octets().iter().rev() {
        name.push_str(&format!("{:x}.{:x}.", byte & 15, byte >> 4));
    }
    (name + "ip6.arpa").into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::{
        op::ResponseCode,
        rr::{
            Record,
            rdata::{A, CNAME},
        },
    };

    fn name(text: &str) -> Name {
        Name::from_labels(text.split('.').map(str::as_bytes)).unwrap()
    }

    fn reply(question: &Question, edit: impl FnOnce(&mut Message)) -> Vec<u8> {
        let mut message = Message::from_vec(&question.bytes).unwrap();
        message.metadata.message_type = MessageType::Response;
        edit(&mut message);
        message.to_vec().unwrap()
    }

    fn a(owner: &str, ttl: u32, last: u8) -> Record {
        Record::from_rdata(name(owner), ttl, RData::A(A([127, 0, 0, last].into())))
    }

    fn cname(owner: &str, ttl: u32, target: &str) -> Record {
        Record::from_rdata(name(owner), ttl, RData::CNAME(CNAME(name(target))))
    }

    fn check(records: Vec<Record>, expect: Found, ttl: u32) {
        let question = Question::new("www.example.net", RecordType::A).unwrap();
        let bytes = reply(&question, |message| message.answers = records);
        assert_eq!(question.judge(&bytes), Verdict::Answer(Ok((expect, ttl))));
    }

    fn ips(last: &[u8]) -> Found {
        Found::Addresses(last.iter().map(|last| IpAddr::from([127, 0, 0, *last])).collect())
    }

    #[test]
    fn an_answer_is_the_end_of_its_own_chain() {
        check(vec![a("WWW.example.net", 9, 1), a("www.example.net", 5, 2)], ips(&[1, 2]), 5);
        let chain = vec![a("b.example.net", 60, 7), cname("www.example.net", 3, "b.example.net")];
        check(chain, ips(&[7]), 3);
        check(vec![cname("www.example.net", 3, "b.example.net")], Found::Alias("b.example.net".into()), 3);
        check(vec![a("other.example.net", 60, 7)], Found::Nothing, 0);
        // An alias of itself ends.
        let circle = vec![cname("www.example.net", 3, "www.example.net")];
        check(circle, Found::Alias("www.example.net".into()), 3);
    }

    #[test]
    fn what_does_not_fit_the_question_is_ignored() {
        let question = Question::new("www.example.net", RecordType::A).unwrap();
        let ignored = |bytes: &[u8]| matches!(question.judge(bytes), Verdict::Ignore(_));
        assert!(ignored(&reply(&question, |message| message.metadata.id ^= 1)));
        assert!(ignored(&reply(&question, |message| message.queries.clear())));
        assert!(ignored(&reply(&question, |message| {
            message.queries = vec![Query::query(name("evil.example.net"), RecordType::A)];
        })));
        assert!(ignored(&reply(&question, |message| {
            message.metadata.response_code = ResponseCode::FormErr;
        })));
        assert!(ignored(&question.bytes), "a question is no answer");
        let good = reply(&question, |message| message.answers = vec![a("www.example.net", 1, 1)]);
        for end in 0..good.len() {
            assert!(ignored(&good[..end]), "{end}");
        }
    }

    #[test]
    fn codes_and_truncation() {
        let question = Question::new("www.example.net", RecordType::A).unwrap();
        let bytes = reply(&question, |message| message.metadata.response_code = ResponseCode::NXDomain);
        assert_eq!(question.judge(&bytes), Verdict::Answer(Err(ResolveError::HostNotFound)));
        let bytes = reply(&question, |message| message.metadata.truncation = true);
        assert_eq!(question.judge(&bytes), Verdict::Truncated);
    }

    #[test]
    fn reverse_names() {
        assert_eq!(&*arpa("10.1.2.3".parse().unwrap()), "3.2.1.10.in-addr.arpa");
        let long = arpa("2001:db8::1".parse().unwrap());
        assert!(long.starts_with("1.0.0.0.") && long.ends_with("8.b.d.0.1.0.0.2.ip6.arpa"), "{long}");
    }

    #[test]
    fn no_name_no_question() {
        assert!(Question::new(&"a".repeat(64), RecordType::A).is_none());
        assert!(Question::new("a..b", RecordType::A).is_none());
    }
}
