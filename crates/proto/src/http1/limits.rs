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

/// How far the buffers reach while a head is being read, as if they were filled line by line.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LineBudget {
    /// Offset behind the last byte that fits into the buffer in use.
    end: usize,
    used: u32,
}

/// A line found no room.
pub(super) struct NoRoom;

impl LineBudget {
    /// For a head whose first line starts at the offset.
    pub(super) fn new(start: usize, limits: &HeadLimits) -> Self {
        Self { end: start.saturating_add(limits.first as usize), used: 0 }
    }

    /// Accounts for a whole line, line break included.
    #[inline(always)]
    pub(super) fn charge(&mut self, line: usize, next: usize, limits: &HeadLimits) -> Result<(), NoRoom> {
        if next <= self.end { Ok(()) } else { self.charge_large(line, next, limits) }
    }

    #[cold]
    fn charge_large(&mut self, line: usize, next: usize, limits: &HeadLimits) -> Result<(), NoRoom> {
        let end = line.saturating_add(limits.large as usize);
        if next > end || self.used >= limits.large_count {
            return Err(NoRoom);
        }
        self.used += 1;
        self.end = end;
        Ok(())
    }

    /// The buffer in use ends at the offset.
    pub(super) fn is_used_up_at(&self, offset: usize) -> bool {
        self.end == offset
    }

    /// Whether a line whose bytes so far end at `end` can get the rest of them.
    pub(super) fn has_room_for_more(
        &self,
        line: usize,
        end: usize,
        limits: &HeadLimits,
    ) -> Result<(), NoRoom> {
        if end < self.end {
            return Ok(());
        }
        if end - line >= limits.large as usize || self.used >= limits.large_count {
            return Err(NoRoom);
        }
        Ok(())
    }
}
