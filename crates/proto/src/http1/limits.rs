//! How large a head may become: `client_header_buffer_size` and `large_client_header_buffers`.
//! <https://nginx.org/en/docs/http/ngx_http_core_module.html#large_client_header_buffers>

/// Buffers a head is read into: one small, then some large ones. A line never spans two buffers, so that the limits
/// hold for lines, not only for the head as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// `client_header_buffer_size`, in bytes.
    pub first: u32,
    /// Size of each of `large_client_header_buffers`, in bytes.
    pub large: u32,
    /// Number of `large_client_header_buffers`.
    pub large_count: u32,
}

impl Default for HeadLimits {
    /// nginx's defaults: `1k` and `4 8k`.
    fn default() -> Self {
        Self { first: 1024, large: 8192, large_count: 4 }
    }
}

impl HeadLimits {
    /// The most bytes a head can have under these limits: no reader needs a larger buffer.
    #[must_use]
    pub fn total(&self) -> usize {
        self.first as usize + self.large as usize * self.large_count as usize
    }
}

/// What is left of the buffers while a head is being read, as if they were filled line by line.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LineBudget {
    left: usize,
    used: u32,
}

/// A line found no room.
pub(super) struct NoRoom;

impl LineBudget {
    pub(super) fn new(limits: &HeadLimits) -> Self {
        Self { left: limits.first as usize, used: 0 }
    }

    /// Accounts for a whole line, line break included.
    #[inline]
    pub(super) fn charge(&mut self, len: usize, limits: &HeadLimits) -> Result<(), NoRoom> {
        if len <= self.left {
            self.left -= len;
            return Ok(());
        }
        self.charge_large(len, limits)
    }

    #[cold]
    fn charge_large(&mut self, len: usize, limits: &HeadLimits) -> Result<(), NoRoom> {
        let large = limits.large as usize;
        if len > large || self.used >= limits.large_count {
            return Err(NoRoom);
        }
        self.used += 1;
        self.left = large - len;
        Ok(())
    }

    /// Whether a line that is still without its end can get one.
    #[inline]
    pub(super) fn has_room_for_more(&self, unfinished: usize, limits: &HeadLimits) -> Result<(), NoRoom> {
        if unfinished < self.left {
            return Ok(());
        }
        if unfinished >= limits.large as usize || self.used >= limits.large_count {
            return Err(NoRoom);
        }
        Ok(())
    }
}
