//! The authority of a request: what `Host` and absolute targets may contain. RFC 3986, 3.2.2.

/// A host that passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostInfo {
    /// Bytes of the host, port and final dot not included.
    pub len: usize,
    /// The port, if a number was given.
    pub port: Option<u16>,
    /// Some letters are upper-case: the text written to `out` differs from the input.
    pub folded: bool,
}

/// The host is empty or has characters that no host has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidHost;

impl InvalidHost {
    /// nginx's message if the host came in a `Host` field.
    pub const IN_FIELD: &'static str = "client sent invalid host header";
    /// nginx's message if it came in the request line.
    pub const IN_REQUEST_LINE: &'static str = "client sent invalid host in request line";
}

/// Checks `host[:port]` as nginx does; on success `out` holds the host in lower case, without port and final dot.
pub fn validate(host: &[u8], out: &mut Vec<u8>) -> Result<HostInfo, InvalidHost> {
    let info = check(host)?;
    copy(host, info, out);
    Ok(info)
}

#[inline]
fn copy(host: &[u8], info: HostInfo, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(host.get(..info.len).unwrap_or_default());
    if info.folded {
        out.make_ascii_lowercase();
    }
}

/// The last authority that was found valid. Clients name the same one again and again, and a comparison is cheaper
/// than a check.
#[derive(Debug, Default)]
pub struct LastHost {
    raw: Vec<u8>,
    info: HostInfo,
}

impl LastHost {
    /// Longer ones are checked each time.
    const LONGEST: usize = 128;

    /// [`validate`], or what it found the last time.
    pub fn validate(&mut self, host: &[u8], out: &mut Vec<u8>) -> Result<HostInfo, InvalidHost> {
        if host.is_empty() || self.raw != host {
            let info = check(host)?;
            if host.len() > Self::LONGEST {
                copy(host, info, out);
                return Ok(info);
            }
            self.raw.clear();
            self.raw.extend_from_slice(host);
            self.info = info;
        }
        copy(host, self.info, out);
        Ok(self.info)
    }
}

/// The bytes of plain host names in lower case.
const PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        #[allow(clippy::indexing_slicing)] // at compile time
        {
            plain[byte] = matches!(byte as u8, b'a'..=b'z' | b'0'..=b'9' | b'-');
        }
        byte += 1;
    }
    plain
};

/// Names such as `www.example.com`, with or without a port: nearly all of them.
fn check_plain(host: &[u8]) -> Option<HostInfo> {
    let mut after_dot = true;
    let mut len = 0;
    for &byte in host {
        if PLAIN.get(usize::from(byte)).is_some_and(|plain| *plain) {
            after_dot = false;
        } else if byte == b'.' && !after_dot {
            after_dot = true;
        } else {
            break;
        }
        len += 1;
    }
    if after_dot {
        return None;
    }
    let port = match host.get(len..)? {
        [] => None,
        [b':', digits @ ..] => parse_port(digits).ok()?,
        _ => return None,
    };
    Some(HostInfo { len, port, folded: false })
}

/// The same without writing anything: if `!folded`, the first `len` bytes of the input are the host to use.
pub fn check(host: &[u8]) -> Result<HostInfo, InvalidHost> {
    if let Some(info) = check_plain(host) {
        return Ok(info);
    }
    let is_literal = host.first() == Some(&b'[');
    let name_len = if is_literal {
        host.iter().position(|byte| *byte == b']').ok_or(InvalidHost)? + 1
    } else {
        host.iter().position(|byte| *byte == b':').unwrap_or(host.len())
    };
    let (name, rest) = host.split_at_checked(name_len).ok_or(InvalidHost)?;
    let inner = if is_literal { name.get(1..name_len - 1).unwrap_or_default() } else { name };

    let mut folded = false;
    let mut after_dot = false;
    let mut escaped = false;
    for &byte in inner {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' => {}
            b'A'..=b'Z' => folded = true,
            b'.' if after_dot => return Err(InvalidHost),
            // unreserved and sub-delims
            b'.' | b'_' | b'~' | b'!' | b'$' | b'&'..=b',' | b';' | b'=' => {}
            b':' if is_literal => {}
            // pct-encoded, checked below
            b'%' if !is_literal => escaped = true,
            _ => return Err(InvalidHost),
        }
        after_dot = byte == b'.';
    }
    if escaped && !escapes_are_whole(name) {
        return Err(InvalidHost);
    }
    let port = match rest.split_first() {
        None => None,
        Some((b':', digits)) => parse_port(digits)?,
        Some(_) => return Err(InvalidHost),
    };
    let len = if after_dot && !is_literal { name_len - 1 } else { name_len };
    if len == 0 {
        return Err(InvalidHost);
    }
    Ok(HostInfo { len, port, folded })
}

/// Two digits behind each `%` (RFC 3986, 2.1).
fn escapes_are_whole(name: &[u8]) -> bool {
    name.split(|byte| *byte == b'%')
        .skip(1)
        .all(|piece| piece.first_chunk::<2>().is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)))
}

/// nginx: a colon without digits is no port.
fn parse_port(digits: &[u8]) -> Result<Option<u16>, InvalidHost> {
    let mut port = None;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return Err(InvalidHost);
        }
        port = Some(
            port.unwrap_or(0u16)
                .checked_mul(10)
                .and_then(|port| port.checked_add(u16::from(digit - b'0')))
                .ok_or(InvalidHost)?,
        );
    }
    Ok(port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_of_a_host_is_what_a_check_finds() {
        let mut last = LastHost::default();
        let long = [b'a'; LastHost::LONGEST + 1];
        let hosts: [&[u8]; 7] =
            [b"Example.com:80", b"example.com", b"", b"a..b", b"[::1]:8080", b"x.", &long];
        for host in hosts.iter().flat_map(|host| [host, host]).chain(hosts.iter().rev()) {
            let (mut got, mut expect) = (Vec::new(), Vec::new());
            assert_eq!(last.validate(host, &mut got), validate(host, &mut expect), "{host:?}");
            assert_eq!(got, expect);
        }
    }
}
