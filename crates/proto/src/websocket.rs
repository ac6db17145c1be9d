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

    /// Where it ends, as far as that can be told.
    fn end(&self, bytes: &[u8]) -> usize {
        let &[first, second, ref rest @ ..] = bytes else { return 2 };
        let (opcode, has_mask) = (first & 0x0f, second & 0x80 != 0);
        if first & self.reserved != 0 || matches!(opcode, 3..=7 | 0xb..) || (self.masked && !has_mask) {
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
