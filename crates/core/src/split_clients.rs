//! `split_clients`: a variable whose value is drawn by the hash of a text, for A/B tests.
//! <https://nginx.org/en/docs/http/ngx_http_split_clients_module.html>

use crate::{
    ConfResult, Fault, Subject,
    args::Args,
    block::{fault_at_end, rows},
    var::{Getter, Variable},
};
use moonrest_conf::value::parse_fixed_point;
use std::sync::Arc;

/// A share: all hashes below `below` that no earlier share took; everything that is left when `None`.
struct Part {
    below: Option<u32>,
    value: Box<[u8]>,
}

/// Sets `split_clients STRING $variable { … }`.
///
/// # Errors
/// A fault of the directive or of one of its rows, in nginx's words.
pub fn set<S: Subject>(args: &Args<'_, S>) -> ConfResult {
    let source = args.template(0)?;
    let name = args.variable_name(1)?;
    let mut shares = Vec::new();
    rows(args, |row| {
        let Some(value) = row.value() else {
            return Err(Fault::message("invalid number of the split_clients parameters"));
        };
        shares.push((share(&row.key().text)?, value.text.clone()));
        Ok(())
    })?;
    let parts = divide(shares).ok_or_else(|| fault_at_end(args, "percent total is greater than 100%"))?;
    args.vars.define(Variable {
        name: name.into(),
        get: Getter::Dyn(Arc::new(move |subject, out| {
            let start = out.len();
            source.append(subject, out);
            let hash = murmur2(out.get(start..).unwrap_or_default());
            out.truncate(start);
            let part = parts.iter().find(|part| part.below.is_none_or(|below| hash < below));
            out.extend_from_slice(part.map_or(&[], |part| &part.value));
            true
        })),
        set: None,
        changeable: true,
        cacheable: true,
    })?;
    Ok(())
}

/// Hundredths of a percent; `None` is `*`.
fn share(text: &[u8]) -> ConfResult<Option<u32>> {
    if text == b"*" {
        return Ok(None);
    }
    text.strip_suffix(b"%")
        .and_then(|number| parse_fixed_point(number, 2))
        .and_then(|number| u32::try_from(number).ok())
        .filter(|number| *number > 0)
        .map(Some)
        .ok_or_else(|| Fault::message(format!("invalid percent value \"{}\"", String::from_utf8_lossy(text))))
}

/// Turns shares into bounds of the hash; `None` when they exceed the whole.
fn divide(shares: Vec<(Option<u32>, Box<[u8]>)>) -> Option<Vec<Part>> {
    let (mut sum, mut last) = (0_u64, 0_u64);
    let mut parts = Vec::with_capacity(shares.len());
    for (share, value) in shares {
        sum = share.map_or(10_000, |share| sum + u64::from(share));
        if sum > 10_000 {
            return None;
        }
        // nginx: the share that completes the whole takes what rounding left.
        let below = match share {
            Some(share) if sum < 10_000 => {
                last += u64::from(share) * u64::from(u32::MAX) / 10_000;
                u32::try_from(last).ok()
            }
            _ => None,
        };
        parts.push(Part { below, value });
    }
    Some(parts)
}

/// MurmurHash2 with seed 0.
pub fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    // nginx: the length counts modulo 2^32.
    #[allow(clippy::cast_possible_truncation)]
    let mut hash = data.len() as u32;
    let mut chunks = data.chunks_exact(4);
    for chunk in &mut chunks {
        let mut word = chunk.iter().rev().fold(0_u32, |word, byte| word << 8 | u32::from(*byte));
        word = word.wrapping_mul(M);
        word ^= word >> 24;
        hash = hash.wrapping_mul(M) ^ word.wrapping_mul(M);
    }
    let rest = chunks.remainder();
    if !rest.is_empty() {
        hash ^= rest.iter().rev().fold(0_u32, |word, byte| word << 8 | u32::from(*byte));
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ hash >> 15
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_murmurhash2() {
        let check = |text: &str, expect: u32| assert_eq!(murmur2(text.as_bytes()), expect, "{text}");
        check("", 0);
        check("a", 0x9268_5f5e);
        check("abc", 0x1357_7c9b);
        check("127.0.0.1", 0xb613_1d91);
        check("hello world!", 0x647a_5890);
    }

    #[test]
    fn shares_add_up_to_the_whole_at_most() {
        let bounds = |shares: &[&str]| {
            let shares =
                shares.iter().map(|text| (share(text.as_bytes()).unwrap(), Box::default())).collect();
            divide(shares).map(|parts| parts.into_iter().map(|part| part.below).collect::<Vec<_>>())
        };
        assert_eq!(bounds(&["0.5%", "*"]), Some(vec![Some(21_474_836), None]));
        assert_eq!(bounds(&["51.2%", "48.8%"]), Some(vec![Some(2_199_023_255), None]));
        assert_eq!(bounds(&["50%", "50%", "1%"]), None);
        assert_eq!(bounds(&["*", "1%"]), None);
        assert_eq!(bounds(&["100%"]), Some(vec![None]));
        for bad in ["", "%", "0%", "10", "1.234%", "x%", "-1%"] {
            assert!(share(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
