//! Names and wildcard names (`*.example.com`, `.example.com`, `www.example.*`) with values, as `map`, `valid_referers`
//! and the like look them up: the exact name first, then the longest wildcard at its head, then the longest at its tail.

use hashbrown::{HashMap, HashSet};

/// Values by name. Names are kept in lower case and asked for in lower case.
#[derive(Clone)]
pub struct Hostnames<T> {
    exact: HashMap<Box<[u8]>, T>,
    /// By what follows `*.`; whether the name itself belongs to it too (`.example.com`).
    head: HashMap<Box<[u8]>, (bool, T)>,
    /// By what stands before `.*`.
    tail: HashMap<Box<[u8]>, T>,
    /// Names that `.name` wildcards have taken from exact ones.
    taken: HashSet<Box<[u8]>>,
    /// The longest key of the wildcards: no longer part of a text is looked up, however many dots it has.
    longest: usize,
}

/// Why a name was not added.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Conflict {
    /// It is no name and no wildcard.
    Invalid,
    /// It is there already.
    Known,
}

impl<T> Default for Hostnames<T> {
    fn default() -> Self {
        Self {
            exact: HashMap::new(),
            head: HashMap::new(),
            tail: HashMap::new(),
            taken: HashSet::new(),
            longest: 0,
        }
    }
}

impl<T> Hostnames<T> {
    /// Adds a name without asking whether it is a wildcard.
    ///
    /// # Errors
    /// [`Conflict::Known`].
    pub fn add_exact(&mut self, name: &[u8], value: T) -> Result<(), Conflict> {
        let name: Box<[u8]> = name.to_ascii_lowercase().into();
        if self.taken.contains(&name) {
            return Err(Conflict::Known);
        }
        insert(&mut self.exact, name, value)
    }

    /// Adds a name or wildcard.
    ///
    /// # Errors
    /// Either [`Conflict`].
    pub fn add(&mut self, name: &[u8], value: T) -> Result<(), Conflict> {
        let name = name.to_ascii_lowercase();
        let stars = name.iter().filter(|byte| **byte == b'*').count();
        if stars > 1 || name.contains(&0) || name.windows(2).any(|pair| pair == b"..") {
            return Err(Conflict::Invalid);
        }
        let wild = stars > 0 || name.starts_with(b".");
        self.longest = self.longest.max(if wild { name.len() } else { 0 });
        match &*name {
            [b'.', rest @ ..] if !rest.is_empty() => {
                if self.exact.contains_key(rest) || self.taken.contains(rest) {
                    return Err(Conflict::Known);
                }
                insert(&mut self.head, rest.into(), (true, value))?;
                self.taken.insert(rest.into());
                Ok(())
            }
            [b'*', b'.', rest @ ..] if !rest.is_empty() => {
                insert(&mut self.head, rest.into(), (false, value))
            }
            [start @ .., b'.', b'*'] if !start.is_empty() => insert(&mut self.tail, start.into(), value),
            _ if stars > 0 => Err(Conflict::Invalid),
            _ => self.add_exact(&name, value),
        }
    }

    /// The value for a name in lower case.
    pub fn find(&self, name: &[u8]) -> Option<&T> {
        if let Some(value) = self.exact.get(name) {
            return Some(value);
        }
        self.find_head(name).or_else(|| self.find_tail(name))
    }

    fn find_head(&self, name: &[u8]) -> Option<&T> {
        if self.head.is_empty() || name.is_empty() {
            return None;
        }
        if let Some((true, value)) = self.head.get(name) {
            return Some(value);
        }
        let from = name.len().saturating_sub(self.longest);
        let name = name.get(from..).unwrap_or_default();
        memchr::memchr_iter(b'.', name)
            .find_map(|dot| self.head.get(name.get(dot + 1..)?))
            .map(|(_, value)| value)
    }

    fn find_tail(&self, name: &[u8]) -> Option<&T> {
        if self.tail.is_empty() {
            return None;
        }
        let name = name.get(..self.longest).unwrap_or(name);
        memchr::memrchr_iter(b'.', name).find_map(|dot| self.tail.get(name.get(..dot)?))
    }

    /// Whether there are no names.
    pub fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.head.is_empty() && self.tail.is_empty()
    }
}

fn insert<T>(map: &mut HashMap<Box<[u8]>, T>, name: Box<[u8]>, value: T) -> Result<(), Conflict> {
    match map.try_insert(name, value) {
        Ok(_) => Ok(()),
        Err(_) => Err(Conflict::Known),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Hostnames<usize> {
        let mut names = Hostnames::default();
        for (n, name) in list.iter().enumerate() {
            names.add(name.as_bytes(), n).unwrap();
        }
        names
    }

    #[test]
    fn exact_then_longest_head_then_longest_tail() {
        let names =
            names(&["a.example.com", "*.example.com", ".b.example.com", "www.example.*", "www.*", ".org"]);
        let check = |name: &str, expect: Option<usize>| {
            assert_eq!(names.find(name.as_bytes()).copied(), expect, "{name}");
        };
        check("a.example.com", Some(0));
        check("x.example.com", Some(1));
        check("x.y.example.com", Some(1));
        check(".example.com", Some(1));
        check("example.com", None);
        check("b.example.com", Some(2));
        check("x.b.example.com", Some(2));
        check("www.example.net", Some(3));
        check("www.example.co.uk", Some(3));
        check("www.else", Some(4));
        check("www", None);
        check("org", Some(5));
        check("x.org", Some(5));
        check("", None);
    }

    #[test]
    fn conflicts_are_seen_and_malformed_wildcards_refused() {
        let check = |known: &[&str], name: &str, expect: Result<(), Conflict>| {
            assert_eq!(names(known).add(name.as_bytes(), 9), expect, "{name}");
        };
        check(&["a.b"], "A.b", Err(Conflict::Known));
        check(&["a.b"], ".a.b", Err(Conflict::Known));
        check(&[".a.b"], "a.b", Err(Conflict::Known));
        check(&[".a.b"], "*.a.b", Err(Conflict::Known));
        check(&["*.a.b"], "a.b", Ok(()));
        check(&["a.*"], "*.a", Ok(()));
        check(&[], "a..b", Err(Conflict::Invalid));
        check(&[], "*.a.*", Err(Conflict::Invalid));
        check(&[], "a*.b", Err(Conflict::Invalid));
        check(&[], "*.", Err(Conflict::Invalid));
        check(&[], "*", Err(Conflict::Invalid));
        check(&[], ".", Ok(()));
        check(&[], "", Ok(()));
    }
}
