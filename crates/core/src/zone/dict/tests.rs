//! What a dictionary does, beside what a `HashMap` would do.

use super::*;
use std::{
    cell::Cell,
    collections::{HashMap, VecDeque},
};

thread_local! {
    static NOW: Cell<u64> = const { Cell::new(1_000) };
}

const CLOCK: Clock = Clock { exact: || NOW.get(), coarse: || NOW.get() };
const SET: Store = Store { when: When::Always, safe: false, ttl: 0, flags: 0 };
const ADD: Store = Store { when: When::Absent, ..SET };
const REPLACE: Store = Store { when: When::Present, ..SET };
const SAFE: Store = Store { safe: true, ..SET };

fn dict(bytes: u64) -> Dict {
    Dict::with_clock("test", bytes, CLOCK)
}

fn pass(ms: u64) {
    NOW.set(NOW.get() + ms);
}

#[derive(Clone, PartialEq, Debug)]
enum Owned {
    Text(Vec<u8>),
    Number(f64),
    Boolean(bool),
}

impl Owned {
    fn as_value(&self) -> Value<'_> {
        match self {
            Self::Text(text) => Value::Text(text),
            Self::Number(number) => Value::Number(*number),
            Self::Boolean(flag) => Value::Boolean(*flag),
        }
    }
}

fn read(found: &Found<'_>) -> Owned {
    match found.kind() {
        Kind::Number => Owned::Number(found.number()),
        Kind::Boolean => Owned::Boolean(found.boolean()),
        _ => {
            let mut text = Vec::new();
            found.text(|piece| text.extend_from_slice(piece));
            assert_eq!(text.len(), found.text_len());
            Owned::Text(text)
        }
    }
}

fn get(dict: &Dict, key: &str) -> Option<Owned> {
    dict.get(key.as_bytes(), false, |found| read(&found))
}

fn text(text: &str) -> Option<Owned> {
    Some(Owned::Text(text.into()))
}

fn set(dict: &Dict, key: &str, value: &str) -> Stored {
    dict.store(key.as_bytes(), Value::Text(value.as_bytes()), SET)
}

const OK: Stored = Stored { result: Ok(()), forcible: false };

fn refused(refusal: Refusal) -> Stored {
    Stored { result: Err(refusal), forcible: false }
}

#[test]
fn values_of_all_types_are_stored_and_changed() {
    let d = dict(1 << 20);
    assert_eq!(get(&d, "a"), None);
    assert_eq!(set(&d, "a", "x"), OK);
    assert_eq!(d.store(b"b", Value::Number(1.5), Store { flags: 7, ..SET }), OK);
    assert_eq!(d.store(b"c", Value::Boolean(true), SET), OK);
    assert_eq!((get(&d, "a"), get(&d, "b")), (text("x"), Some(Owned::Number(1.5))));
    assert_eq!(get(&d, "c"), Some(Owned::Boolean(true)));
    assert_eq!(d.get(b"b", false, |found| found.flags()), Some(7));
    assert_eq!(set(&d, "b", ""), OK);
    assert_eq!(d.get(b"b", false, |found| found.flags()), Some(0));
    assert_eq!(get(&d, "b"), text(""));
    d.remove(b"b");
    d.remove(b"b");
    assert_eq!(get(&d, "b"), None);
    assert_eq!(d.store(b"a", Value::Number(2.0), ADD), refused(Refusal::Exists));
    assert_eq!(d.store(b"n", Value::Number(2.0), REPLACE), refused(Refusal::NotFound));
    assert_eq!(d.store(b"n", Value::Number(2.0), ADD), OK);
    assert_eq!(d.store(b"n", Value::Text(&[b'y'; 5000]), REPLACE), OK);
    assert_eq!(get(&d, "n"), Some(Owned::Text(vec![b'y'; 5000])));
    assert_eq!(d.keys(0), [&b"c"[..], b"a", b"n"]);
    assert_eq!(d.keys(2), [&b"c"[..], b"a"]);
    let long = vec![b'k'; 65_535];
    assert_eq!(d.store(&long, Value::Text(b"v"), SET), OK);
    assert_eq!(d.get(&long, false, |found| read(&found)), text("v"));
    assert_eq!(d.keys(0).last(), Some(&long));
    let longer = vec![b'k'; 65_536];
    assert_eq!(d.store(&longer, Value::Text(b"v"), SET), refused(Refusal::NoMemory));
}

#[test]
fn numbers_are_incremented() {
    let d = dict(1 << 20);
    let done = |sum| Stored { result: Ok(sum), forcible: false };
    assert_eq!(d.increment(b"n", 1.0, None).result, Err(Refusal::NotFound));
    assert_eq!(d.increment(b"n", 1.0, Some((10.0, 0))), done(11.0));
    assert_eq!(d.increment(b"n", -0.5, Some((10.0, 0))), done(10.5));
    assert_eq!(d.increment(b"t", 2.0, Some((0.0, 50))), done(2.0));
    assert_eq!(d.ttl(b"t"), Some(50));
    pass(49);
    assert_eq!(d.increment(b"t", 2.0, Some((0.0, 50))), done(4.0));
    assert_eq!(d.ttl(b"t"), Some(1));
    pass(1);
    assert_eq!(d.increment(b"t", 2.0, None).result, Err(Refusal::NotFound));
    assert_eq!(d.increment(b"t", 2.0, Some((0.0, 0))), done(2.0));
    assert_eq!(d.ttl(b"t"), Some(0));
    set(&d, "s", "12");
    assert_eq!(d.increment(b"s", 2.0, Some((0.0, 0))).result, Err(Refusal::NotNumber));
    d.expire(b"s", 1);
    pass(1);
    assert_eq!(d.increment(b"s", 2.0, Some((0.0, 0))), done(2.0));
}

#[test]
fn records_expire_but_can_be_seen_until_they_give_way() {
    let d = dict(1 << 20);
    d.store(b"a", Value::Number(1.0), Store { ttl: 10, ..SET });
    set(&d, "b", "stays");
    assert_eq!((d.ttl(b"a"), d.ttl(b"b"), d.ttl(b"c")), (Some(10), Some(0), None));
    assert!(d.expire(b"a", 100) && !d.expire(b"c", 100));
    pass(99);
    assert!(get(&d, "a").is_some());
    pass(2);
    assert_eq!((get(&d, "a"), d.ttl(b"a")), (None, Some(-1)));
    assert_eq!(d.get(b"a", true, |found| found.stale), Some(true));
    assert_eq!(d.get(b"b", true, |found| found.stale), Some(false));
    assert_eq!(d.keys(0), [b"b"]);
    assert_eq!(d.flush_expired(0), 1);
    assert_eq!(d.get(b"a", true, |found| found.stale), None);
    d.flush_all();
    assert_eq!((get(&d, "b"), d.keys(0).len(), d.flush_expired(0)), (None, 0, 0), "gone at once");
    for n in 0..10 {
        d.store(&[n], Value::Number(1.0), Store { ttl: 1, ..SET });
    }
    pass(1);
    assert_eq!((d.flush_expired(3), d.flush_expired(0)), (3, 7));
    assert_eq!(d.store(b"x", Value::Number(1.0), REPLACE), refused(Refusal::NotFound));
}

#[test]
fn as_much_fits_as_in_nginx() {
    // 22 pages of 16 blocks of 256 bytes, and the rest of the page that nginx's own records take is of another size.
    let d = dict(100 << 10);
    assert_eq!(d.free_space(), 90_112);
    let value = "hello, world".repeat(6);
    let full = (0..).find(|n| set(&d, &format!("key_{n}"), &value).forcible);
    assert_eq!(full, Some(352));
    assert_eq!((get(&d, "key_0"), get(&d, "key_1")), (None, text(&value)));
    // The one just used is not the next to give way.
    assert!(set(&d, "another", &value).forcible);
    assert!(get(&d, "key_1").is_some() && get(&d, "key_2").is_none());
    let d = dict(16 << 10);
    let counted: Vec<u64> = (0..63)
        .map(|n| {
            assert!(!set(&d, &format!("key{n:05}"), "val00000").forcible);
            d.free_space()
        })
        .collect();
    assert_eq!((d.capacity(), counted[30], counted[31], counted[62]), (16_384, 4096, 0, 0));
    assert!(set(&d, "one more", "val00000").forcible);
}

#[test]
fn a_value_may_be_as_large_as_the_dictionary() {
    for bytes in [100 << 10, 20 << 20] {
        let d = dict(bytes);
        let all = usize::try_from(d.free_space()).unwrap();
        for n in 0..all / 300 {
            set(&d, &format!("small {n}"), &"s".repeat(n % 150));
        }
        let large = "x".repeat(all - 80);
        assert_eq!(d.store(b"large", Value::Text(large.as_bytes()), SAFE), refused(Refusal::NoMemory));
        assert!(d.keys(0).len() > 20, "nothing gave way");
        assert_eq!(set(&d, "large", &large), Stored { result: Ok(()), forcible: true });
        assert_eq!(get(&d, "large"), text(&large));
        assert_eq!(d.free_space(), 0);
        let larger = "y".repeat(all);
        assert_eq!(set(&d, "larger", &larger).result, Err(Refusal::NoMemory));
        // Another shard's key gets its room from there, too.
        for n in 0..200 {
            assert_eq!(set(&d, &format!("key {n}"), &"z".repeat(100)).result, Ok(()), "{n}");
        }
        assert_eq!(get(&d, "large"), None);
        assert_eq!(d.keys(0).len(), 200);
    }
}

#[test]
fn lists_are_pushed_and_popped() {
    let d = dict(1 << 20);
    let free = d.free_space();
    assert_eq!((d.list_len(b"l"), d.pop(b"l", End::Left)), (Ok(0), Ok(None)));
    assert_eq!(d.push(b"l", Value::Number(1.0), End::Right), Ok(1));
    assert_eq!(d.push(b"l", Value::Text(b"two"), End::Right), Ok(2));
    assert_eq!(d.push(b"l", Value::Text(&[b'z'; 9000]), End::Left), Ok(3));
    assert_eq!(d.get(b"l", false, |found| found.kind()), Some(Kind::List));
    assert_eq!(d.increment(b"l", 1.0, None).result, Err(Refusal::NotNumber));
    assert_eq!(d.pop(b"l", End::Left), Ok(Some(Element::Text(vec![b'z'; 9000]))));
    assert_eq!(d.pop(b"l", End::Right), Ok(Some(Element::Text(b"two".to_vec()))));
    assert_eq!(d.list_len(b"l"), Ok(1));
    assert_eq!(d.pop(b"l", End::Right), Ok(Some(Element::Number(1.0))));
    assert_eq!(d.get(b"l", true, |_| ()), None, "gone with its last element");
    set(&d, "s", "x");
    assert_eq!(d.push(b"s", Value::Number(1.0), End::Left), Err(Refusal::NotList));
    assert_eq!((d.pop(b"s", End::Left), d.list_len(b"s")), (Err(Refusal::NotList), Err(Refusal::NotList)));
    d.push(b"l", Value::Number(1.0), End::Left).unwrap();
    d.expire(b"l", 5);
    pass(5);
    assert_eq!(d.push(b"l", Value::Number(2.0), End::Left), Ok(1));
    assert_eq!(d.ttl(b"l"), Some(0));
    assert_eq!(d.store(b"l", Value::Number(3.0), SET), OK);
    assert_eq!(get(&d, "l"), Some(Owned::Number(3.0)));
    let pushed = (1..).take_while(|n| d.push(b"l2", Value::Text(&[0; 2000]), End::Left) == Ok(*n)).count();
    assert!(pushed > 400, "{pushed}");
    assert_eq!(d.push(b"l3", Value::Text(&[0; 2000]), End::Left), Err(Refusal::NoMemory));
    assert_eq!(d.list_len(b"l3"), Ok(0));
    [&b"s"[..], b"l", b"l2"].into_iter().for_each(|key| d.remove(key));
    assert_eq!(d.free_space(), free);
}

/// Numbers that look random and are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % end
    }

    fn value(&mut self) -> Owned {
        match self.below(8) {
            0 => Owned::Number(self.below(1000) as f64),
            1 => Owned::Boolean(self.below(2) == 0),
            2 => Owned::Text(vec![self.below(256) as u8; self.below(30_000)]),
            _ => Owned::Text(vec![self.below(256) as u8; self.below(300)]),
        }
    }
}

#[test]
fn with_room_enough_it_does_what_a_map_does() {
    for bytes in [1 << 20, 64 << 20] {
        let (d, mut map, mut numbers) = (dict(bytes), HashMap::new(), Numbers(bytes + 3));
        let (free, keys) = (d.free_space(), if bytes > 1 << 20 { 1000 } else { 20 });
        for _ in 0..30_000 {
            let key = format!("k{}", numbers.below(keys)).repeat(numbers.below(3) + 1);
            let key = key.as_str();
            match numbers.below(10) {
                0..3 => {
                    let value = numbers.value();
                    assert_eq!(d.store(key.as_bytes(), value.as_value(), SET), OK);
                    map.insert(key.to_owned(), value);
                }
                3 => {
                    d.remove(key.as_bytes());
                    map.remove(key);
                }
                4 => {
                    let value = numbers.value();
                    let stored = d.store(key.as_bytes(), value.as_value(), ADD).result;
                    assert_eq!(stored.is_err(), map.contains_key(key));
                    map.entry(key.to_owned()).or_insert(value);
                }
                5 => {
                    let value = numbers.value();
                    let stored = d.store(key.as_bytes(), value.as_value(), REPLACE).result;
                    assert_eq!(stored.is_ok(), map.contains_key(key));
                    map.entry(key.to_owned()).and_modify(|old| *old = value);
                }
                6 => {
                    let sum = match map.get(key) {
                        None => Ok(8.0),
                        Some(Owned::Number(number)) => Ok(number + 1.0),
                        Some(_) => Err(Refusal::NotNumber),
                    };
                    assert_eq!(d.increment(key.as_bytes(), 1.0, Some((7.0, 0))).result, sum);
                    sum.into_iter().for_each(|sum| drop(map.insert(key.to_owned(), Owned::Number(sum))));
                }
                _ => assert_eq!(get(&d, key).as_ref(), map.get(key)),
            }
        }
        let mut found: Vec<_> = d.keys(0);
        let mut expected: Vec<_> = map.keys().map(|key| key.as_bytes().to_vec()).collect();
        found.sort();
        expected.sort();
        assert_eq!(found, expected);
        found.iter().for_each(|key| d.remove(key));
        assert_eq!(d.free_space(), free, "every page came back");
    }
}

#[test]
fn a_list_is_what_a_deque_is() {
    let (d, mut deque, mut numbers) = (dict(1 << 20), VecDeque::new(), Numbers(5));
    for _ in 0..20_000 {
        let end = if numbers.below(2) == 0 { End::Left } else { End::Right };
        if numbers.below(2) == 0 {
            let element = Element::Text(vec![7; numbers.below(100)]);
            let Element::Text(text) = &element else { unreachable!() };
            let len = d.push(b"list", Value::Text(text), end).unwrap();
            match end {
                End::Left => deque.push_front(element),
                End::Right => deque.push_back(element),
            }
            assert_eq!(len, deque.len());
        } else {
            let expected = if end == End::Left { deque.pop_front() } else { deque.pop_back() };
            assert_eq!(d.pop(b"list", end), Ok(expected));
        }
    }
}

#[test]
fn under_pressure_nothing_is_mixed_up_or_lost_for_ever() {
    for bytes in [20 << 10, 60 << 10, 3 << 20] {
        let (d, mut map, mut numbers) = (dict(bytes), HashMap::new(), Numbers(bytes));
        let free = d.free_space();
        for n in 0..20_000 {
            let key = format!("k{}", numbers.below(3000));
            match numbers.below(8) {
                0..5 => {
                    let value = numbers.value();
                    let ttl = if numbers.below(3) == 0 { 20 } else { 0 };
                    let stored = d.store(key.as_bytes(), value.as_value(), Store { ttl, ..SET });
                    match stored.result {
                        Ok(()) => drop(map.insert(key, value)),
                        Err(_) => drop(map.remove(&key)),
                    }
                }
                5 => drop(d.push(format!("list {n}").as_bytes(), numbers.value().as_value(), End::Left)),
                6 => pass(1),
                _ => {
                    let found = get(&d, &key);
                    assert!(found.is_none() || found.as_ref() == map.get(&key), "{key}");
                }
            }
            assert!(d.free_space() <= free);
        }
        assert!(!d.keys(0).is_empty());
        d.flush_all();
        d.flush_expired(0);
        assert_eq!(d.free_space(), free);
    }
}

#[test]
fn threads_lose_no_increment() {
    let d = Dict::new("test", 16 << 20);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for n in 0..20_000 {
                    assert!(d.increment(&[(n % 16) as u8], 1.0, Some((0.0, 0))).result.is_ok());
                }
            });
        }
    });
    let sum: f64 = (0..16_u8).filter_map(|n| d.get(&[n], false, |found| found.number())).sum();
    assert_eq!(sum, 80_000.0);
}

#[test]
fn threads_mix_nothing_up() {
    for bytes in [100 << 10, 16 << 20] {
        let d = Dict::new("test", bytes);
        std::thread::scope(|scope| {
            for thread in 0..4_u64 {
                let d = &d;
                scope.spawn(move || {
                    let mut numbers = Numbers(thread + 1);
                    for n in 0..5000 {
                        let sum = d.increment(&[b'k', (n % 16) as u8], 1.0, Some((0.0, 0)));
                        assert!(sum.result.is_ok());
                    }
                    for _ in 0..5000 {
                        let key = format!("k{}", numbers.below(2000));
                        let text = vec![thread as u8; numbers.below(9000)];
                        let _ = d.store(key.as_bytes(), Value::Text(&text), SET);
                        if let Some(Owned::Text(text)) = get(d, &key) {
                            assert!(text.windows(2).all(|pair| pair[0] == pair[1]), "torn");
                        }
                    }
                });
            }
        });
        let free = Dict::new("test", bytes).free_space();
        d.flush_all();
        d.flush_expired(0);
        assert_eq!(d.free_space(), free);
    }
}
