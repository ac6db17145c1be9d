//! Where a directive may stand, and how many arguments it takes.

/// A set of configuration contexts, named as in nginx's manual.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Contexts(pub u32);

impl Contexts {
    pub const MAIN: Self = Self(1);
    pub const EVENTS: Self = Self(1 << 1);
    pub const HTTP: Self = Self(1 << 2);
    pub const SERVER: Self = Self(1 << 3);
    pub const LOCATION: Self = Self(1 << 4);
    /// `if` directly inside `server`.
    pub const SERVER_IF: Self = Self(1 << 5);
    /// `if` inside `location`.
    pub const IF: Self = Self(1 << 6);
    pub const LIMIT_EXCEPT: Self = Self(1 << 7);
    pub const UPSTREAM: Self = Self(1 << 8);
    pub const STREAM: Self = Self(1 << 9);
    pub const STREAM_SERVER: Self = Self(1 << 10);
    pub const STREAM_UPSTREAM: Self = Self(1 << 11);

    /// `http`, `server` and `location`: where most directives may stand.
    pub const HSL: Self = Self(Self::HTTP.0 | Self::SERVER.0 | Self::LOCATION.0);

    /// The union of two sets, usable in constants.
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether the two sets share a context.
    pub const fn overlaps(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// The names of the contexts, in the inventory's words.
    pub fn names(self) -> Vec<&'static str> {
        const NAMES: [&str; 12] = [
            "main",
            "events",
            "http",
            "server",
            "location",
            "server-if",
            "if",
            "limit_except",
            "upstream",
            "stream",
            "stream-server",
            "stream-upstream",
        ];
        NAMES.iter().enumerate().filter(|(bit, _)| self.0 & (1 << bit) != 0).map(|(_, name)| *name).collect()
    }
}

/// What follows the directive's name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arity {
    /// Between `min` and `max` words and a semicolon.
    Words { min: u8, max: u8 },
    /// Between `min` and `max` words and a block of directives or entries.
    Block { min: u8, max: u8 },
    /// Between `min` and `max` words and a raw Lua block.
    Lua { min: u8, max: u8 },
}

impl Arity {
    /// Exactly `n` words.
    pub const fn exactly(n: u8) -> Self {
        Self::Words { min: n, max: n }
    }

    /// `n` words or more.
    pub const fn at_least(n: u8) -> Self {
        Self::Words { min: n, max: u8::MAX }
    }

    /// Between `min` and `max` words.
    pub const fn between(min: u8, max: u8) -> Self {
        Self::Words { min, max }
    }

    /// The accepted number of words.
    pub const fn bounds(self) -> (usize, usize) {
        match self {
            Self::Words { min, max } | Self::Block { min, max } | Self::Lua { min, max } => {
                (min as usize, if max == u8::MAX { usize::MAX } else { max as usize })
            }
        }
    }
}
