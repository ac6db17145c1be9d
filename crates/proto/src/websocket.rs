//! WebSocket frames (RFC 6455, 5.2): where one ends, told as soon as it can be.

/// What a frame may be, and how much of it is known to be missing.
#[derive(Debug)]
pub struct Frame {
    max: u64,
    reserved: u8,
    masked: bool,
    missing: usize,
}

impl Frame {
    /// A frame with a payload of at most `max` bytes, without the `reserved` bits, and with a mask if it has to be `masked`.
    pub fn new(max: u64, reserved: u8, masked: bool) -> Self {
        Self { max, reserved, masked, missing: 2 }
    }

    /// How many bytes have to come at least before more can be told.
    pub fn missing(&self) -> usize {
        self.missing
    }

    /// The length of the frame once it is there, or of the part that shows what is wrong with it.
    pub fn advance(&mut self, bytes: &[u8]) -> Option<usize> {
        let end = self.end(bytes);
        self.missing = end.saturating_sub(bytes.len());
        (self.missing == 0).then_some(end)
    }

    /// Whether a frame that begins with these bytes may be.
    fn accepts(&self, first: u8, second: u8) -> bool {
        let opcode = first & 0x0f;
        first & self.reserved == 0 && !matches!(opcode, 3..=7 | 0xb..) && (!self.masked || second & 0x80 != 0)
    }

    /// The first byte and the payload, without its mask; none if it is not a frame that may be.
    pub fn payload<'b>(&self, bytes: &'b mut [u8]) -> Option<(u8, &'b mut [u8])> {
        let (&mut [first, second], rest) = bytes.split_first_chunk_mut()?;
        // Control frames have no parts.
        if !self.accepts(first, second) || (first & 0x08 != 0 && first & 0x80 == 0) {
            return None;
        }
        let (long, size) = match second & 0x7f {
            126 => (2, usize::from(u16::from_be_bytes(*rest.first_chunk()?))),
            127 => (8, usize::try_from(u64::from_be_bytes(*rest.first_chunk()?)).ok()?),
            size => (0, usize::from(size)),
        };
        let rest = rest.get_mut(long..)?;
        if second & 0x80 == 0 {
            return (rest.len() == size).then_some((first, rest));
        }
        let (&mut key, payload) = rest.split_first_chunk_mut::<4>()?;
        if payload.len() != size {
            return None;
        }
        mask_in_place(payload, key);
        Some((first, payload))
    }

    /// Where it ends, as far as that can be told.
    fn end(&self, bytes: &[u8]) -> usize {
        let &[first, second, ref rest @ ..] = bytes else { return 2 };
        let (opcode, has_mask) = (first & 0x0f, second & 0x80 != 0);
        if !self.accepts(first, second) {
            return 2;
        }
        let (head, size) = match second & 0x7f {
            126 => match rest.first_chunk() {
                Some(size) => (4_usize, u64::from(u16::from_be_bytes(*size))),
                None => return 4,
            },
            127 => match rest.first_chunk() {
                Some(size) => (10, u64::from_be_bytes(*size)),
                None => return 10,
            },
            size => (2, u64::from(size)),
        };
        let mask: usize = if has_mask { 4 } else { 0 };
        match usize::try_from(size) {
            Ok(size) if size as u64 <= self.max && (opcode < 8 || size <= 125) => {
                (head + mask).saturating_add(size)
            }
            _ => head,
        }
    }
}

/// Applies a mask where the bytes are.
pub fn mask_in_place(bytes: &mut [u8], key: [u8; 4]) {
    let wide = u64::from_ne_bytes([key[0], key[1], key[2], key[3], key[0], key[1], key[2], key[3]]);
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is taken of these bytes, however they come.
    fn check(bytes: &[u8], expected: Option<usize>) {
        let new = || Frame::new(200, 0x70, false);
        assert_eq!(new().advance(bytes), expected, "{bytes:?}");
        let mut frame = new();
        let end = (0..=bytes.len()).find_map(|len| frame.advance(&bytes[..len]));
        assert_eq!(end, expected, "{bytes:?} byte by byte");
    }

    #[test]
    fn payloads_come_without_their_mask() {
        let payload = |frame: &[u8]| {
            let limits = Frame::new(200, 0x70, false);
            limits.payload(&mut frame.to_vec()).map(|(first, payload)| (first, payload.to_vec()))
        };
        assert_eq!(payload(b"\x81\x02ab"), Some((0x81, b"ab".to_vec())));
        assert_eq!(payload(b"\x81\x82\x01\x02\x03\x04``"), Some((0x81, b"ab".to_vec())));
        assert_eq!(payload(b"\x81\x80\x01\x02\x03\x04"), Some((0x81, Vec::new())));
        let long = [&b"\x82\x7e\0\xc8"[..], &[7; 200]].concat();
        assert_eq!(payload(&long), Some((0x82, vec![7; 200])));
        assert_eq!(payload(&long[..203]), None);
        assert_eq!(payload(b"\x09\x00"), None);
        assert_eq!(payload(b"\xc1\x00"), None);
        assert_eq!(payload(b"\x81"), None);
    }

    #[test]
    fn a_frame_is_taken_when_it_is_whole_and_a_wrong_one_as_soon_as_it_shows() {
        check(&[0x81], None);
        check(&[0x81, 0], Some(2));
        check(&[0x81, 2, b'a'], None);
        check(&[0x81, 2, b'a', b'b', 0x81], Some(4));
        check(&[0x81, 0x81, 0, 0, 0, 0, b'a'], Some(7));
        check(&[0x82, 126, 0], None);
        check(&[0x82, 126, 0, 201], Some(4));
        check(&[0x82, 127, 0xff, 0, 0, 0, 0, 0, 0, 0], Some(10));
        check(&[0xc1, 5], Some(2));
        check(&[0x83, 5], Some(2));
        check(&[0x89, 126, 0, 126], Some(4));
        let long = [&[0x82, 126, 0, 200][..], &[0; 200]].concat();
        check(&long, Some(204));
        check(&long[..203], None);
        let mut masked = Frame::new(9, 0, true);
        assert_eq!(masked.advance(&[0x81, 1]), Some(2));
    }
}
