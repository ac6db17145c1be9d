//! Chunked bodies: no panic; arrival in pieces gives the same body, trailer and end; data is encoded and decoded back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use moonrest_proto::http1::chunked::{Chunk, ChunkError, ChunkHead, DATA_END, Decoder, LAST_CHUNK};

fuzz_target!(|data: &[u8]| {
    let Some((&step, wire)) = data.split_first() else { return };
    let step = usize::from(step).max(1);
    assert_eq!(decode(wire.chunks(step)), decode(std::iter::once(wire)));

    let mut encoded = Vec::new();
    for piece in wire.chunks(step) {
        encoded.extend_from_slice(ChunkHead::new(piece.len() as u64).as_bytes());
        encoded.extend_from_slice(piece);
        encoded.extend_from_slice(DATA_END);
    }
    encoded.extend_from_slice(LAST_CHUNK);
    let (body, _, used) = decode(std::iter::once(&encoded[..])).expect("own encoding");
    assert_eq!((&body[..], used), (wire, Some(encoded.len())));
});

type Decoded = (Vec<u8>, Vec<(Vec<u8>, Vec<u8>)>, Option<usize>);

/// Body, trailer fields, and where the body ended.
fn decode<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Result<Decoded, ChunkError> {
    let mut decoder = Decoder::default();
    let mut body = Vec::new();
    let mut used = 0;
    let mut end = None;
    'pieces: for mut piece in pieces {
        loop {
            match decoder.decode(piece)? {
                Chunk::Data(range) => {
                    assert!(!range.is_empty());
                    used += range.end;
                    body.extend_from_slice(&piece[range.clone()]);
                    piece = &piece[range.end..];
                }
                Chunk::Partial(len) => {
                    assert_eq!(len, piece.len());
                    used += len;
                    break;
                }
                Chunk::End(len) => {
                    end = Some(used + len);
                    break 'pieces;
                }
            }
        }
    }
    let bytes = decoder.trailer_bytes();
    let trailers = decoder
        .trailers()
        .iter()
        .map(|field| (field.name.of(bytes).to_vec(), field.value.of(bytes).to_vec()));
    Ok((body, trailers.collect(), end))
}
