//! Base64 as nginx reads it: padding or not, and never mind the bits left over.

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

const CONFIG: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, CONFIG);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, CONFIG);

/// Decodes what stands before the first `=`.
pub(crate) fn decode_base64(text: &[u8]) -> Option<Vec<u8>> {
    decode(&STANDARD, text)
}

/// The same with the alphabet for addresses.
pub(crate) fn decode_base64_url(text: &[u8]) -> Option<Vec<u8>> {
    decode(&URL_SAFE, text)
}

fn decode(engine: &GeneralPurpose, text: &[u8]) -> Option<Vec<u8>> {
    let end = memchr::memchr(b'=', text).unwrap_or(text.len());
    engine.decode(text.get(..end)?).ok()
}
