//! Resolvers against name servers of the tests' own.

use super::*;
use hickory_proto::{
    op::{Message, MessageType, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, AAAA, CNAME, SRV},
    },
};
use moonrest_rt::block_on as run;
use std::{io::Write, net::UdpSocket, time::Duration};

/// What a test's server does with a question.
enum Action {
    Records(Vec<Record>),
    Code(ResponseCode),
    /// Bytes of another answer first.
    Lies(Vec<Record>),
    Truncated,
    Silence,
}

fn name(text: &str) -> Name {
    Name::from_labels(text.split('.').map(str::as_bytes)).unwrap()
}

fn a(owner: &str, ttl: u32, last: u8) -> Record {
    Record::from_rdata(name(owner), ttl, RData::A(A([127, 0, 0, last].into())))
}

fn aaaa(owner: &str) -> Record {
    Record::from_rdata(name(owner), 60, RData::AAAA(AAAA("::1".parse().unwrap())))
}

/// A server on UDP and TCP of one port; answers until the test ends.
fn server(mut act: impl FnMut(&str, RecordType) -> Action + Send + 'static) -> SocketAddr {
    // The port must be free for both; another test may have it for TCP.
    let (udp, tcp) = std::iter::repeat_with(|| UdpSocket::bind("127.0.0.1:0").unwrap())
        .take(100)
        .find_map(|udp| Some((std::net::TcpListener::bind(udp.local_addr().ok()?).ok()?, udp)))
        .map(|(tcp, udp)| (udp, tcp))
        .unwrap();
    let addr = udp.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((len, peer)) = udp.recv_from(&mut buffer) {
            let question = Message::from_vec(&buffer[..len]).unwrap();
            let query = &question.queries[0];
            let asked = query.name.to_lowercase().to_ascii();
            let mut answer = question.clone();
            answer.metadata.message_type = MessageType::Response;
            match act(asked.trim_end_matches('.'), query.query_type) {
                Action::Silence => continue,
                Action::Records(records) => answer.answers = records,
                Action::Code(code) => answer.metadata.response_code = code,
                Action::Lies(records) => {
                    let mut lie = answer.clone();
                    lie.metadata.id ^= 0x5555;
                    lie.answers = vec![a(asked.trim_end_matches('.'), 60, 66)];
                    udp.send_to(&lie.to_vec().unwrap(), peer).unwrap();
                    lie.metadata.id = answer.metadata.id;
                    lie.queries[0].name = name("evil.example.net");
                    udp.send_to(&lie.to_vec().unwrap(), peer).unwrap();
                    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
                    lie.queries = answer.queries.clone();
                    stranger.send_to(&lie.to_vec().unwrap(), peer).unwrap();
                    std::thread::sleep(Duration::from_millis(20));
                    answer.answers = records;
                }
                Action::Truncated => {
                    answer.metadata.truncation = true;
                    udp.send_to(&answer.to_vec().unwrap(), peer).unwrap();
                    over_tcp(&tcp);
                    continue;
                }
            }
            udp.send_to(&answer.to_vec().unwrap(), peer).unwrap();
        }
    });
    addr
}

/// Answers one question over TCP, in two writes.
fn over_tcp(listener: &std::net::TcpListener) {
    use std::io::Read;
    let (mut stream, _) = listener.accept().unwrap();
    let mut len = [0; 2];
    stream.read_exact(&mut len).unwrap();
    let mut bytes = vec![0; usize::from(u16::from_be_bytes(len))];
    stream.read_exact(&mut bytes).unwrap();
    let mut answer = Message::from_vec(&bytes).unwrap();
    answer.metadata.message_type = MessageType::Response;
    answer.answers = (1..=40).map(|last| a("www.example.net", 60, last)).collect();
    let bytes = answer.to_vec().unwrap();
    stream.write_all(&u16::try_from(bytes.len()).unwrap().to_be_bytes()).unwrap();
    stream.write_all(&bytes).unwrap();
}

fn resolver(servers: Vec<SocketAddr>, edit: impl FnOnce(&mut Settings)) -> Rc<Resolver> {
    let mut settings = Settings::new(servers);
    edit(&mut settings);
    Arc::new(settings).here()
}

fn ipv4_only(settings: &mut Settings) {
    settings.ipv6 = false;
}

async fn addrs(resolver: &Rc<Resolver>, name: &str) -> Result<Vec<String>, ResolveError> {
    let addrs = resolver.resolve(name.as_bytes(), 80, 3_000).await?;
    let mut shown: Vec<String> = addrs.iter().map(ToString::to_string).collect();
    shown.sort();
    Ok(shown)
}

#[test]
fn both_families_are_asked_once_for_all_who_wait() {
    let (count, counted) = std::sync::mpsc::channel();
    let addr = server(move |asked, kind| {
        count.send(()).unwrap();
        Action::Records(vec![if kind == RecordType::A { a(asked, 60, 1) } else { aaaa(asked) }])
    });
    run(async {
        let resolver = resolver(vec![addr], |_| ());
        let (one, two) =
            tokio::join!(addrs(&resolver, "www.example.net"), addrs(&resolver, "WWW.Example.net."));
        assert_eq!(one.unwrap(), ["127.0.0.1:80", "[::1]:80"]);
        assert_eq!(two.unwrap().len(), 2);
        assert!(resolver.at_hand(b"www.example.net", 80).is_some());
        assert_eq!(addrs(&resolver, "www.example.net").await.unwrap().len(), 2);
    });
    assert_eq!(counted.try_iter().count(), 2);
}

#[test]
fn answers_of_others_are_not_believed() {
    let addr = server(|asked, _| Action::Lies(vec![a(asked, 60, 1)]));
    run(async {
        let resolver = resolver(vec![addr], ipv4_only);
        assert_eq!(addrs(&resolver, "www.example.net").await.unwrap(), ["127.0.0.1:80"]);
    });
}

#[test]
fn errors_and_absence() {
    let mut asked = 0;
    let addr = server(move |name, _| match name {
        "absent.example.net" => {
            asked += 1;
            Action::Code(if asked > 1 { ResponseCode::Refused } else { ResponseCode::NXDomain })
        }
        "empty.example.net" => Action::Records(Vec::new()),
        "broken.example.net" => Action::Code(ResponseCode::ServFail),
        _ => Action::Silence,
    });
    run(async {
        let resolver = resolver(vec![addr], ipv4_only);
        for _ in 0..2 {
            let error = addrs(&resolver, "absent.example.net").await.unwrap_err();
            let line = "absent.example.net could not be resolved (3: Host not found)";
            assert_eq!(error.line(b"absent.example.net"), line);
        }
        assert_eq!(addrs(&resolver, "empty.example.net").await, Err(ResolveError::HostNotFound));
        assert_eq!(addrs(&resolver, "broken.example.net").await, Err(ResolveError::ServerFailure));
        assert_eq!(addrs(&resolver, "a..b").await, Err(ResolveError::HostNotFound));
        let late = resolver.resolve(b"silent.example.net", 80, 100).await;
        assert_eq!(late.unwrap_err().to_string(), "110: Operation timed out");
        assert_eq!(addrs(&resolver, "[::1]").await.unwrap(), ["[::1]:80"]);
    });
}

#[test]
fn aliases_are_followed_and_circles_end() {
    let addr = server(|asked, _| match asked {
        "one.example.net" => Action::Records(vec![Record::from_rdata(
            name(asked),
            60,
            RData::CNAME(CNAME(name("two.example.net"))),
        )]),
        "two.example.net" => Action::Records(vec![a(asked, 60, 2)]),
        _ => Action::Records(vec![Record::from_rdata(name(asked), 60, RData::CNAME(CNAME(name(asked))))]),
    });
    run(async {
        let resolver = resolver(vec![addr], ipv4_only);
        assert_eq!(addrs(&resolver, "one.example.net").await.unwrap(), ["127.0.0.2:80"]);
        assert!(resolver.at_hand(b"one.example.net", 80).is_some());
        assert_eq!(addrs(&resolver, "circle.example.net").await, Err(ResolveError::HostNotFound));
    });
}

#[test]
fn truncated_answers_come_over_tcp() {
    let addr = server(|_, _| Action::Truncated);
    run(async {
        let resolver = resolver(vec![addr], ipv4_only);
        assert_eq!(addrs(&resolver, "www.example.net").await.unwrap().len(), 40);
    });
}

#[test]
fn a_dead_server_gives_way_to_the_next() {
    let dead = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let good = server(|asked, _| Action::Records(vec![a(asked, 60, 1)]));
    run(async {
        let resolver = resolver(vec![dead, good], ipv4_only);
        assert_eq!(addrs(&resolver, "www.example.net").await.unwrap(), ["127.0.0.1:80"]);
    });
}

#[test]
fn services_lead_to_hosts() {
    let addr = server(|asked, _| match asked {
        "_http._tcp.example.net" => {
            let srv = |weight, host| {
                let data = SRV::new(1, weight, 8080, name(host));
                Record::from_rdata(name("_http._tcp.example.net"), 60, RData::SRV(data))
            };
            Action::Records(vec![srv(5, "one.example.net"), srv(7, "absent.example.net")])
        }
        "one.example.net" => Action::Records(vec![a(asked, 30, 3)]),
        _ => Action::Code(ResponseCode::NXDomain),
    });
    run(async {
        let resolver = resolver(vec![addr], ipv4_only);
        let (places, valid) = resolver.services("http", b"example.net", 3_000).await.unwrap();
        assert_eq!((places.len(), places[0].addr.to_string().as_str()), (1, "127.0.0.3:8080"));
        assert_eq!((places[0].weight, &*places[0].host), (5, "one.example.net"));
        assert!(valid <= 30_000, "{valid}");
    });
}

#[test]
fn the_cache_is_bounded() {
    run(async {
        let resolver = resolver(vec!["127.0.0.1:1".parse().unwrap()], ipv4_only);
        let known = Known { found: Rc::new(Found::Nothing), until: u64::MAX };
        for n in 0..MAX_NAMES + 10 {
            let key = (Kind::Address, Rc::from(format!("n{n}.example.net")));
            resolver.remember(key, Ok(known.clone()), u64::MAX, 0);
        }
        assert!(resolver.known.borrow().len() <= MAX_NAMES);
    });
}

#[test]
fn the_system_knows_hosts_and_domains() {
    let addr = server(|asked, _| match asked {
        "short.example.org" => Action::Records(vec![a(asked, 60, 4)]),
        _ => Action::Code(ResponseCode::NXDomain),
    });
    run(async {
        let resolver = resolver(vec![addr], |settings| {
            settings.ipv6 = false;
            settings.system = Some(System::new("search example.net example.org", "127.0.0.9 here"));
        });
        assert_eq!(addrs(&resolver, "short").await.unwrap(), ["127.0.0.4:80"]);
        assert_eq!(addrs(&resolver, "here").await.unwrap(), ["127.0.0.9:80"]);
        assert_eq!(addrs(&resolver, "nowhere").await, Err(ResolveError::HostNotFound));
    });
}
