//! Lines of the error log kept for the program that serves (`lua_capture_error_log`): each worker keeps its own.
//! <https://github.com/openresty/lua-nginx-module#lua_capture_error_log>

use crate::Level;
use moonrest_sys::time::WallTime;
use std::{cell::RefCell, collections::VecDeque};

/// A line that was kept.
pub struct Line {
    pub level: Level,
    pub at: WallTime,
    /// Without the newline.
    pub text: Box<[u8]>,
}

/// What upstream's buffer needs beside the text of a line.
const OVERHEAD: usize = 24;

struct Kept {
    limit: usize,
    used: usize,
    filter: u8,
    lines: VecDeque<Line>,
}

impl Kept {
    fn push(&mut self, line: Line) {
        let size = line.text.len() + OVERHEAD;
        if line.level as u8 > self.filter || size > self.limit {
            return;
        }
        while self.used + size > self.limit && self.take().is_some() {}
        self.used += size;
        self.lines.push_back(line);
    }

    fn take(&mut self) -> Option<Line> {
        let line = self.lines.pop_front()?;
        self.used -= line.text.len() + OVERHEAD;
        Some(line)
    }
}

thread_local! {
    static KEPT: RefCell<Option<Kept>> = const { RefCell::new(None) };
}

/// Keeps this thread's lines from now on, in at most `limit` bytes: older ones give way.
pub fn start(limit: usize) {
    let kept = Kept { limit, used: 0, filter: Level::Debug as u8, lines: VecDeque::new() };
    KEPT.set(Some(kept));
}

/// Whether lines are kept.
pub fn is_on() -> bool {
    KEPT.with_borrow(Option::is_some)
}

/// Keeps only lines of this severity, as a number, or more. False when none are kept.
pub fn set_filter(level: u8) -> bool {
    KEPT.with_borrow_mut(|kept| kept.as_mut().map(|kept| kept.filter = level).is_some())
}

/// Takes the oldest line.
pub fn take() -> Option<Line> {
    KEPT.with_borrow_mut(|kept| kept.as_mut()?.take())
}

pub(crate) fn push(level: Level, at: WallTime, text: &[u8]) {
    KEPT.with_borrow_mut(|kept| {
        if let Some(kept) = kept {
            kept.push(Line { level, at, text: text.into() });
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_lines_give_way_and_mild_ones_are_passed_over() {
        let at = moonrest_sys::time::wall();
        push(Level::Error, at, b"before");
        assert!(!is_on() && !set_filter(4));
        start(3 * (1 + OVERHEAD));
        for text in [b"a", b"b", b"c", b"d"] {
            push(Level::Error, at, text);
        }
        assert!(set_filter(Level::Error as u8));
        push(Level::Warn, at, b"mild");
        push(Level::Error, at, &[b'x'; 100]);
        let texts: Vec<_> = std::iter::from_fn(take).map(|line| line.text[0]).collect();
        assert_eq!(texts, b"bcd");
    }
}
