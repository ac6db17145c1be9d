//! Conversations with servers of every kind.

use super::*;
use proptest::prelude::*;

fn frame(kind: u8, flags: u8, id: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame_head(payload.len(), kind, flags, id, &mut out);
    out.extend_from_slice(payload);
    out
}

/// A client whose request has been sent.
fn asked() -> Client {
    let mut client = Client::new();
    let mut block = Vec::new();
    hpack::encode_request(b"GET", false, b"/", b"a", &mut block);
    client.request(&block, true, 1000);
    client.out.clear();
    client
}

/// Everything that comes of `input`, given in parts of `step` bytes.
fn events(client: &mut Client, input: &[u8], step: usize) -> Result<(Vec<u8>, Vec<u8>, bool), String> {
    let (mut head, mut body, mut ended) = (Vec::new(), Vec::new(), false);
    let mut held: Vec<u8> = Vec::new();
    for part in input.chunks(step) {
        held.extend_from_slice(part);
        loop {
            let (used, event) = client.receive(&held)?;
            let stop = match event {
                Event::More => true,
                Event::Control => false,
                Event::Head(text) => {
                    head.extend_from_slice(&text);
                    false
                }
                Event::Data(range) => {
                    body.extend_from_slice(&held[range]);
                    false
                }
                Event::End => {
                    ended = true;
                    true
                }
            };
            held.drain(..used);
            if stop {
                break;
            }
        }
    }
    Ok((head, body, ended))
}

fn answer() -> Vec<u8> {
    [
        frame(kind::SETTINGS, 0, 0, &[]),
        frame(kind::HEADERS, END_HEADERS, 1, &[0x88, 0, 1, b'a', 1, b'b']),
        frame(kind::DATA, 0, 1, b"hello "),
        frame(20, 0, 1, b"unknown"),
        frame(kind::DATA, PADDED, 1, &[&[3][..], b"world", &[0; 3]].concat()),
        frame(kind::DATA, PADDED, 1, &[2, 0, 0]),
        frame(kind::PING, 0, 0, b"12345678"),
        frame(kind::HEADERS, END_STREAM, 1, &[0, 1]),
        frame(kind::CONTINUATION, END_HEADERS, 1, &[b't', 1, b'1']),
    ]
    .concat()
}

#[test]
fn answers_are_read_however_they_are_cut() {
    let input = answer();
    for step in 1..=input.len() {
        let mut client = asked();
        let (head, body, ended) = events(&mut client, &input, step).unwrap();
        assert_eq!(String::from_utf8_lossy(&head), "HTTP/1.1 200 \r\na: b\r\n\r\n", "{step}");
        assert_eq!((body.as_slice(), ended), (&b"hello world"[..], true), "{step}");
        assert_eq!(client.take_trailers(), [(b"t".to_vec(), b"1".to_vec())]);
        assert!(client.is_idle());
        let acks = [frame(kind::SETTINGS, ACK, 0, &[]), frame(kind::PING, ACK, 0, b"12345678")].concat();
        assert_eq!(client.out, acks);
    }
}

#[test]
fn an_answer_that_is_cut_short_never_ends() {
    let input = answer();
    for len in 0..input.len() {
        let (_, _, ended) = events(&mut asked(), &input[..len], 7).unwrap();
        assert!(!ended, "{len}");
    }
}

#[test]
fn what_breaks_the_rules_has_nginxs_words() {
    let head = frame(kind::HEADERS, END_HEADERS, 1, &[0x88]);
    let over = frame(kind::HEADERS, END_HEADERS | END_STREAM, 1, &[0x88]);
    let check = |frames: &[Vec<u8>], expect: &str| {
        let error = events(&mut asked(), &frames.concat(), 5).unwrap_err();
        assert_eq!(error, expect);
    };
    let c = |frames: &[&[u8]]| frames.iter().map(|frame| frame.to_vec()).collect::<Vec<_>>();
    check(&c(&[&[0, 0x40, 1, 0, 0, 0, 0, 0, 1]]), "upstream sent too large http2 frame: 16385");
    check(&[frame(kind::DATA, 0, 1, b"x")], "upstream sent unexpected http2 frame: 0");
    check(&[frame(kind::CONTINUATION, 4, 1, b"")], "upstream sent unexpected http2 frame: 9");
    let open = frame(kind::HEADERS, 0, 1, &[0x88]);
    check(&[open, frame(kind::PING, 0, 0, &[0; 8])], "upstream sent unexpected http2 frame: 6");
    check(&[frame(kind::HEADERS, 4, 3, &[0x88])], "upstream sent frame for unknown stream 3");
    check(&[head.clone(), frame(kind::DATA, 0, 3, b"")], "upstream sent data frame for unknown stream 3");
    check(&[over.clone(), frame(kind::DATA, 0, 1, b"")], "upstream sent frame for closed stream 1");
    check(&[frame(kind::PUSH_PROMISE, 4, 1, &[0; 4])], "upstream sent unexpected push promise frame");
    check(&[frame(kind::RST_STREAM, 0, 1, &[0, 0, 0, 8])], "upstream rejected request with error 8");
    check(
        &[over.clone(), frame(kind::RST_STREAM, 0, 1, &[0, 0, 0, 8])],
        "upstream rejected request with error 8",
    );
    let calm = frame(kind::RST_STREAM, 0, 1, &[0; 4]);
    check(&[over.clone(), calm.clone(), calm.clone()], "upstream sent frame for closed stream 1");
    check(&[frame(kind::RST_STREAM, 0, 1, &[0; 3])], "upstream sent rst stream frame with invalid length: 3");
    check(&[frame(kind::GOAWAY, 0, 0, &[0, 0, 0, 0, 0, 0, 0, 5])], "upstream sent goaway with error 5");
    check(&[frame(kind::GOAWAY, 0, 0, &[0; 7])], "upstream sent goaway frame with invalid length: 7");
    check(&[frame(kind::WINDOW_UPDATE, 0, 0, &[0; 4])], "upstream sent zero window update");
    check(
        &[frame(kind::WINDOW_UPDATE, 0, 1, &[0x7f, 0xff, 0xff, 0xff])],
        "upstream sent too large window update",
    );
    check(&[frame(kind::SETTINGS, 0, 1, &[])], "upstream sent settings frame with non-zero stream id: 1");
    check(&[frame(kind::SETTINGS, 0, 0, &[0; 5])], "upstream sent settings frame with invalid length: 5");
    let large = frame(kind::SETTINGS, 0, 0, &[0, 4, 0x80, 0, 0, 0]);
    check(&[large], "upstream sent settings frame with too large initial window size: 2147483648");
    check(&[frame(kind::PING, ACK, 0, &[0; 8])], "upstream sent ping frame with ack flag");
    check(&vec![frame(kind::PING, 0, 0, &[0; 8]); 1001], "upstream sent too many ping frames");
    check(&[head.clone(), frame(kind::DATA, PADDED, 1, &[])], "upstream sent too short http2 frame");
    let padded = frame(kind::DATA, PADDED, 1, &[9, 0]);
    check(&[head.clone(), padded], "upstream sent http2 frame with too long padding: 9 in frame 1");
    check(
        &[frame(kind::HEADERS, PRIORITY, 1, &[0; 4])],
        "upstream sent headers frame with invalid length: 4",
    );
    check(&[head.clone(), frame(kind::HEADERS, 4, 1, &[])], "upstream sent trailer without end stream flag");
    check(&[head, frame(kind::HEADERS, 5, 1, &[0x88])], "upstream sent invalid trailer \":status: 200\"");
    check(&[frame(kind::HEADERS, 4, 1, &[])], "upstream sent no :status header");
    check(&[frame(kind::HEADERS, 4, 1, &[0x82])], "upstream sent invalid header \":method: GET\"");
    check(&[frame(kind::HEADERS, 4, 1, &[0x88, 0x88])], "upstream sent duplicate :status header");
    check(&[frame(kind::HEADERS, 4, 1, &[8, 2, b'2', b'0'])], "upstream sent invalid :status \"20\"");
    check(
        &[frame(kind::HEADERS, 4, 1, &[8, 3, b'1', b'0', b'0'])],
        "upstream sent unexpected :status \"100\"",
    );
    check(&[frame(kind::HEADERS, 5, 1, &[8, 3, b'1', b'0', b'3'])], "upstream prematurely closed stream");
}

#[test]
fn the_announced_length_holds() {
    let head = frame(kind::HEADERS, END_HEADERS, 1, &[0x88]);
    let check = |body: &[u8], expect: Result<bool, &str>| {
        let mut client = asked();
        events(&mut client, &head, 100).unwrap();
        client.expect(Some(5));
        let got = events(&mut client, &frame(kind::DATA, END_STREAM, 1, body), 3).map(|(_, _, ended)| ended);
        assert_eq!(got.as_ref().map_err(String::as_str), expect.as_ref().map_err(|text| *text));
    };
    check(b"hello", Ok(true));
    check(b"hell", Err(ENDED_EARLY));
    check(b"hello!", Err(TOO_LONG));
}

#[test]
fn windows_limit_what_is_sent() {
    let mut client = asked();
    assert_eq!(client.room(), MAX_DATA);
    events(&mut client, &frame(kind::SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 2]), 100).unwrap();
    assert_eq!(client.room(), 2);
    let mut out = Vec::new();
    client.data(2, false, &mut out);
    assert_eq!((client.room(), out), (0, vec![0, 0, 2, 0, 0, 0, 0, 0, 1]));
    events(&mut client, &frame(kind::WINDOW_UPDATE, 0, 1, &[0, 0, 0, 3]), 100).unwrap();
    assert_eq!(client.room(), 3);
    // A window may become less than nothing.
    events(&mut client, &frame(kind::SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]), 100).unwrap();
    assert_eq!(client.room(), 1);
    client.data(1, false, &mut Vec::new());
    assert_eq!(client.room(), 0);
}

#[test]
fn long_heads_are_continued() {
    let mut client = Client::new();
    client.out.clear();
    client.request(&vec![0; 2 * MAX_DATA + 1], true, 1000);
    assert!(client.out.starts_with(&[0, 0x40, 0, kind::HEADERS, END_STREAM, 0, 0, 0, 1]));
    let second = 9 + MAX_DATA;
    assert_eq!(client.out[second..second + 9], [0, 0x40, 0, kind::CONTINUATION, 0, 0, 0, 0, 1]);
    let third = 2 * second;
    assert_eq!(client.out[third..third + 9], [0, 0, 1, kind::CONTINUATION, END_HEADERS, 0, 0, 0, 1]);
}

#[test]
fn interim_heads_come_first() {
    let mut client = asked();
    let input = [
        frame(kind::HEADERS, END_HEADERS, 1, &[8, 3, b'1', b'0', b'3']),
        frame(kind::HEADERS, END_HEADERS | END_STREAM, 1, &[0x89]),
    ];
    let (head, _, ended) = events(&mut client, &input.concat(), 4).unwrap();
    assert_eq!(String::from_utf8_lossy(&head), "HTTP/1.1 103 \r\n\r\nHTTP/1.1 204 \r\n\r\n");
    assert!(ended);
}

#[test]
fn a_server_that_leaves_gets_no_further_request() {
    let mut client = asked();
    let input = [
        frame(kind::GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]),
        frame(kind::HEADERS, END_HEADERS | END_STREAM, 1, &[0x88]),
    ];
    assert!(events(&mut client, &input.concat(), 100).unwrap().2);
    assert!(!client.is_idle());
}

proptest! {
    #[test]
    fn no_input_does_harm(input in prop::collection::vec(any::<u8>(), 0..500), step in 1usize..50) {
        let _ = events(&mut asked(), &input, step);
    }

    #[test]
    fn no_frame_does_harm(
        frames in prop::collection::vec((0u8..11, any::<u8>(), 0u32..3, prop::collection::vec(any::<u8>(), 0..40)), 0..20)
    ) {
        let input: Vec<u8> =
            frames.iter().flat_map(|(kind, flags, id, payload)| frame(*kind, *flags, *id, payload)).collect();
        let _ = events(&mut asked(), &input, 13);
    }
}
