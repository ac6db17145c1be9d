//! The chunked coding: RFC 9112, 7.1.

use moonrest_proto::http1::chunked::{
    Chunk, ChunkError, ChunkHead, ChunkLimits, DATA_END, Decoder, LAST_CHUNK,
};
use proptest::prelude::*;

/// The body, the trailer fields, and how many bytes are left over; `None` for the last if it has not ended.
#[derive(Debug, PartialEq)]
struct Outcome {
    body: Vec<u8>,
    trailers: Vec<(String, String)>,
    rest: Option<usize>,
}

fn run<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Result<Outcome, ChunkError> {
    let mut decoder = Decoder::new(ChunkLimits { extensions: 50, trailer: 100, trailer_lines: 3 });
    let mut outcome = Outcome { body: Vec::new(), trailers: Vec::new(), rest: None };
    for mut piece in pieces {
        loop {
            match decoder.decode(piece)? {
                Chunk::Data(range) => {
                    outcome.body.extend_from_slice(&piece[range.clone()]);
                    piece = &piece[range.end..];
                }
                Chunk::Partial(used) => {
                    assert_eq!(used, piece.len());
                    break;
                }
                Chunk::End(used) => {
                    assert!(decoder.is_done());
                    *outcome.rest.get_or_insert(0) += piece.len() - used;
                    break;
                }
            }
        }
    }
    let text =
        |span: moonrest_proto::Span| String::from_utf8_lossy(span.of(decoder.trailer_bytes())).into_owned();
    outcome.trailers = decoder.trailers().iter().map(|field| (text(field.name), text(field.value))).collect();
    Ok(outcome)
}

fn check(input: &str, expect: Result<&str, ChunkError>) {
    let whole = run(std::iter::once(input.as_bytes()));
    assert_eq!(run(input.as_bytes().chunks(1)), whole, "{input:?}");
    let got = whole.map(|outcome| {
        assert_eq!(outcome.rest, Some(0), "{input:?}");
        let trailers: Vec<_> =
            outcome.trailers.iter().map(|(name, value)| format!(" {name}={value}")).collect();
        String::from_utf8(outcome.body).unwrap() + &trailers.concat()
    });
    assert_eq!(got, expect.map(str::to_owned), "{input:?}");
}

#[test]
fn bodies() {
    check("0\r\n\r\n", Ok(""));
    check("5\r\nhello\r\n0\r\n\r\n", Ok("hello"));
    check("00A\r\n0123456789\r\na\r\n0123456789\r\n000\r\n\r\n", Ok("01234567890123456789"));
    check("1;a=b;c=\"d\"\r\nx\r\n1 ; q\r\ny\r\n0;e\r\n\r\n", Ok("xy"));
    check("2\r\n\r\n\r\n0\r\n\r\n", Ok("\r\n"));
}

#[test]
fn trailers_rfc_9110_6_5() {
    check("0\r\nA: b\r\nX-Sum:  1 \r\n\r\n", Ok(" A=b X-Sum=1"));
    check(
        "0\r\nContent-Length: 5\r\nHost: h\r\nTransfer-Encoding: chunked\r\nA: b\r\n\r\n",
        Err(ChunkError::TooLarge),
    );
    check("0\r\nContent-Length: 5\r\nhost: h\r\nA: b\r\n\r\n", Ok(" A=b"));
    for trailer in
        ["A: b\n", "A b\r\n", "A : b\r\n", " A: b\r\n", "A: b\rc\r\n", "A: b\0\r\n", ": b\r\n", "\rx"]
    {
        check(&format!("0\r\n{trailer}\r\n"), Err(ChunkError::InvalidTrailer));
    }
    check("0\r\n\n", Err(ChunkError::InvalidTrailer));
    check(&format!("0\r\nA: {}\r\n\r\n", "b".repeat(100)), Err(ChunkError::TooLarge));
}

#[test]
fn sizes() {
    for size in
        ["", " 1", "-1", "+1", "0x1", "g", "1_0", "8000000000000000", "10000000000000000", "\r\n", ";"]
    {
        check(&format!("{size}\r\nx\r\n0\r\n\r\n"), Err(ChunkError::InvalidSize));
    }
    let mut decoder = Decoder::default();
    assert_eq!(decoder.decode(b"7fffffffffffffff\r\n"), Ok(Chunk::Partial(18)));
    assert_eq!(decoder.left_in_chunk(), i64::MAX as u64);
}

#[test]
fn line_ends() {
    for input in ["1\nx\r\n0\r\n\r\n", "1\n"] {
        check(input, Err(ChunkError::InvalidSize));
    }
    for input in ["1\r\rx", "1\r\nx\n", "1\r\nxy", "1\r\nx\r\r", "1;a\rb"] {
        check(input, Err(ChunkError::InvalidLineEnd));
    }
    for input in ["1;a\nx", "1;a\0", "1;\u{7f}"] {
        check(input, Err(ChunkError::InvalidExtension));
    }
}

#[test]
fn extensions_and_zeros_are_limited_for_the_whole_body() {
    check(&format!("1;{}\r\nx\r\n0\r\n\r\n", "a".repeat(49)), Ok("x"));
    check(&format!("1;{}\r\nx\r\n0\r\n\r\n", "a".repeat(50)), Err(ChunkError::TooLarge));
    check(&"1;aaaaaaaaaa\r\nx\r\n".repeat(5), Err(ChunkError::TooLarge));
    check(&"0".repeat(60), Err(ChunkError::TooLarge));
}

#[test]
fn an_error_is_final() {
    let mut decoder = Decoder::default();
    assert!(decoder.decode(b"x").is_err());
    assert_eq!(decoder.decode(b"0\r\n\r\n"), Err(ChunkError::InvalidSize));
    decoder.reset();
    assert_eq!(decoder.decode(b"0\r\n\r\nGET"), Ok(Chunk::End(5)));
}

#[test]
fn chunk_heads() {
    for (size, expect) in
        [(1, "1\r\n"), (15, "f\r\n"), (16, "10\r\n"), (4096, "1000\r\n"), (u64::MAX, "ffffffffffffffff\r\n")]
    {
        assert_eq!(ChunkHead::new(size).as_bytes(), expect.as_bytes());
    }
}

fn encode(pieces: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
        out.extend_from_slice(ChunkHead::new(piece.len() as u64).as_bytes());
        out.extend_from_slice(piece);
        out.extend_from_slice(DATA_END);
    }
    out.extend_from_slice(LAST_CHUNK);
    out
}

proptest! {
    #[test]
    fn what_was_encoded_is_decoded(
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..10), step in 1usize..20,
    ) {
        let wire = encode(&pieces);
        let got = run(wire.chunks(step)).unwrap();
        prop_assert_eq!(got, Outcome { body: pieces.concat(), trailers: Vec::new(), rest: Some(0) });
    }

    #[test]
    fn arrival_in_pieces_changes_nothing(
        pieces in prop::collection::vec(prop::sample::select(vec![&b"3\r\nabc\r\n"[..], &b"1;a=b\r\nx\r\n"[..], &b"0\r\n"[..], &b"A: b\r\n"[..], &b"\r\n"[..], &b"\n"[..], &b"\r"[..], &b"00"[..], &b"\0"[..], &b"TE: x\r\n"[..], &b"x"[..]]), 0..12),
        step in 1usize..9,
    ) {
        let wire = pieces.concat();
        let whole = run(std::iter::once(&wire[..]));
        prop_assert_eq!(run(wire.chunks(step)), whole);
    }

    #[test]
    fn arbitrary_bytes_never_panic(input in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = run(input.chunks(17));
    }
}
