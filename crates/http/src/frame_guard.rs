//! Against HTTP/2 peers that make work without asking for anything: floods of PING, SETTINGS, RST_STREAM, PRIORITY, empty
//! DATA and CONTINUATION frames (CVE-2019-9512 to 9518, CVE-2023-44487, CVE-2024-27316). The crate stops some of them;
//! here all are counted.

use std::cell::Cell;

/// Control frames that a connection may send at once.
const BURST: u64 = 1000;
/// How many more it may send each second.
const PER_SECOND: u64 = 100;
/// How many more each stream that carries something allows: its window updates and its reset.
const PER_REQUEST: u64 = 4;

/// So many bytes sent allow one more: the peer has to say how much further it will read.
const BYTES_PER_UPDATE: u64 = 1024;

/// Watches the frames of one connection as they are read.
pub(crate) struct Guard {
    /// Bytes of the frame header seen so far, and how many.
    header: Cell<([u8; 9], usize)>,
    /// Bytes left of the present frame's payload.
    payload: Cell<u64>,
    /// A head has begun and not ended; the second tells that it ends with the present frame.
    head: Cell<(bool, bool)>,
    /// Bytes of the preface that were not seen yet.
    preface: Cell<usize>,
    /// Control frames seen.
    control: Cell<u64>,
    /// Frames that begin a request or carry something.
    useful: Cell<u64>,
    /// Bytes that were sent.
    sent: Cell<u64>,
    started: u64,
    flooded: Cell<bool>,
}

impl Guard {
    /// For a peer that sends `preface` bytes first. `started` in monotonic milliseconds.
    pub(crate) fn new(preface: usize, started: u64) -> Self {
        Self {
            header: Cell::new(([0; 9], 0)),
            payload: Cell::new(0),
            head: Cell::new((false, false)),
            preface: Cell::new(preface),
            control: Cell::new(0),
            useful: Cell::new(0),
            sent: Cell::new(0),
            started,
            flooded: Cell::new(false),
        }
    }

    /// So many bytes were sent to the peer.
    pub(crate) fn sent(&self, bytes: usize) {
        self.sent.set(self.sent.get().saturating_add(bytes as u64));
    }

    pub(crate) fn is_flooded(&self) -> bool {
        self.flooded.get()
    }

    /// Whether the rest of a head is still to come.
    pub(crate) fn is_in_head(&self) -> bool {
        self.head.get().0
    }

    /// Looks at bytes that were read at `now`, in monotonic milliseconds.
    pub(crate) fn see(&self, bytes: &[u8], now: u64) {
        let mut rest = bytes;
        let preface = self.preface.get().min(rest.len());
        self.preface.set(self.preface.get() - preface);
        rest = rest.get(preface..).unwrap_or_default();
        let before = self.control.get();
        while !rest.is_empty() {
            let skip = usize::try_from(self.payload.get()).unwrap_or(usize::MAX).min(rest.len());
            self.payload.set(self.payload.get() - skip as u64);
            rest = rest.get(skip..).unwrap_or_default();
            self.end_head();
            let (mut header, mut have) = self.header.get();
            let take = (9 - have).min(rest.len());
            for (place, byte) in header.iter_mut().skip(have).zip(rest) {
                *place = *byte;
            }
            have += take;
            rest = rest.get(take..).unwrap_or_default();
            if have == 9 {
                self.frame(header);
                have = 0;
            }
            self.header.set((header, have));
        }
        if self.control.get() != before {
            let seconds = now.saturating_sub(self.started) / 1000;
            let allowed = BURST
                .saturating_add(seconds.saturating_mul(PER_SECOND))
                .saturating_add(self.useful.get().saturating_mul(PER_REQUEST))
                .saturating_add(self.sent.get() / BYTES_PER_UPDATE);
            if self.control.get() > allowed {
                self.flooded.set(true);
            }
        }
    }

    /// The head is complete with the last byte of its last frame.
    fn end_head(&self) {
        if self.payload.get() == 0 && self.head.get() == (true, true) {
            self.head.set((false, false));
        }
    }

    fn frame(&self, header: [u8; 9]) {
        let [a, b, c, kind, flags, ..] = header;
        let length = u64::from(a) << 16 | u64::from(b) << 8 | u64::from(c);
        self.payload.set(length);
        // HEADERS and CONTINUATION, which may have END_HEADERS.
        if matches!(kind, 1 | 9) {
            self.head.set((true, flags & 4 != 0));
            self.end_head();
        }
        // A DATA frame with bytes, or a HEADERS frame.
        let useful = (kind == 0 && (length > 0 || flags & 1 != 0)) || kind == 1;
        let count = if useful { &self.useful } else { &self.control };
        count.set(count.get() + 1);
        // A request that is taken back at once has not been useful.
        if kind == 3 {
            self.control.set(self.control.get() + PER_REQUEST);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let length = u32::try_from(payload).unwrap().to_be_bytes();
        let mut bytes = vec![length[1], length[2], length[3], kind, flags, 0, 0, 0, 1];
        bytes.resize(9 + payload, 7);
        bytes
    }

    #[test]
    fn floods_are_noticed_however_they_are_cut() {
        for step in [1, 5, 17, 4096] {
            let guard = Guard::new(24, 0);
            let mut bytes = vec![0; 24];
            (0..=BURST).for_each(|_| bytes.extend(frame(6, 0, 8)));
            bytes.chunks(step).for_each(|part| guard.see(part, 0));
            assert!(guard.is_flooded(), "{step}");
        }
    }

    #[test]
    fn a_head_lasts_until_its_last_frame_has_come() {
        let guard = Guard::new(0, 0);
        let check = |bytes: &[u8], in_head| {
            bytes.iter().enumerate().for_each(|(at, byte)| {
                guard.see(&[*byte], 0);
                assert!(at + 1 < bytes.len() || guard.is_in_head() == in_head, "{bytes:?}");
            });
        };
        check(&frame(1, 5, 30), false);
        check(&frame(1, 1, 30), true);
        check(&frame(9, 0, 0), true);
        check(&frame(9, 4, 1), false);
        check(&frame(1, 4, 0), false);
        check(&frame(1, 4, 5)[..12], true);
        guard.see(&[7, 7], 0);
        assert!(!guard.is_in_head());
        check(&frame(0, 4, 5)[..10], false);
    }

    #[test]
    fn requests_and_time_allow_more() {
        let guard = Guard::new(24, 0);
        guard.see(&[0; 24], 0);
        for _ in 0..5000 {
            guard.see(&frame(1, 4, 30), 0);
            guard.see(&frame(8, 0, 4), 0);
        }
        assert!(!guard.is_flooded());
        let guard = Guard::new(24, 0);
        guard.see(&[0; 24], 0);
        for second in 0..100 {
            (0..100).for_each(|_| guard.see(&frame(6, 0, 8), second * 1000));
        }
        assert!(!guard.is_flooded());
    }

    #[test]
    fn whoever_is_sent_much_may_update_its_windows() {
        let guard = Guard::new(0, 0);
        for _ in 0..10_000 {
            guard.sent(16 * 1024);
            guard.see(&frame(8, 0, 4), 0);
        }
        assert!(!guard.is_flooded());
    }

    #[test]
    fn requests_taken_back_at_once_are_a_flood() {
        let guard = Guard::new(24, 0);
        guard.see(&[0; 24], 0);
        for _ in 0..2000 {
            guard.see(&frame(1, 5, 30), 0);
            guard.see(&frame(3, 0, 4), 0);
        }
        assert!(guard.is_flooded());
    }
}
