//! What an operation on a shared zone costs, in nanoseconds of CPU time: `cargo run --profile quick -p moonrest-core --example zone_cost`.

use moonrest_core::zone::{
    Lru,
    dict::{Dict, Store, Value, When},
};
use moonrest_sys::time;
use std::hint::black_box;

const ROUNDS: usize = 2_000_000;

fn main() {
    let hot = ["key".to_owned()];
    let many: Vec<String> = (0..10_000).map(|n| format!("key-{n}")).collect();
    for (name, keys) in [("one key", &hot[..]), ("10,000 keys", &many[..])] {
        for threads in [1, 2] {
            let lru = Lru::with_bytes(10 << 20);
            for key in keys {
                if let Ok(mut put) = lru.lock(key.as_bytes()).put(8, 0) {
                    put.record.value_mut().fill(0);
                }
            }
            let get = measure(threads, keys, |key| {
                let mut out = [0; 8];
                if let Some(record) = lru.lock(key).get() {
                    out.copy_from_slice(record.value());
                }
                black_box(out);
            });
            let set = measure(threads, keys, |key| {
                if let Ok(mut put) = lru.lock(key).put(8, 1) {
                    put.record.value_mut().copy_from_slice(&black_box([1; 8]));
                }
            });
            let incr = measure(threads, keys, |key| {
                if let Some(mut record) = lru.lock(key).get() {
                    let value = record.value_mut();
                    let number = value.first_chunk().map_or(0.0, |bytes| f64::from_ne_bytes(*bytes)) + 1.0;
                    value.copy_from_slice(&number.to_ne_bytes());
                }
            });
            report(&format!("{name}, {threads} threads: get {get:.0}, set {set:.0}, incr {incr:.0}"));
        }
    }
    dictionaries(&hot, &many);
    let small = Lru::with_bytes(1 << 20);
    let keys: Vec<String> = (0..100_000).map(|n| format!("key-{n}")).collect();
    let evict = measure(1, &keys, |key| {
        let _ = small.lock(key).put(8, 1);
    });
    report(&format!("set that evicts another: {evict:.0}"));
}

fn dictionaries(hot: &[String], many: &[String]) {
    const SET: Store = Store { when: When::Always, safe: false, ttl: 0, flags: 0 };
    const EXPIRING: Store = Store { ttl: 1_000_000, ..SET };
    let text = "x".repeat(50);
    for (name, keys) in [("one key", hot), ("10,000 keys", many)] {
        for threads in [1, 2] {
            let dict = Dict::new("bench", 10 << 20);
            for key in keys {
                dict.store(key.as_bytes(), Value::Number(0.0), SET);
            }
            let get = |key: &[u8]| {
                black_box(dict.get(key, false, |found| found.number()));
            };
            let set = |how: Store| {
                let dict = &dict;
                move |key: &[u8]| {
                    black_box(dict.store(key, Value::Number(1.0), how));
                }
            };
            let get_number = measure(threads, keys, get);
            let set_number = measure(threads, keys, set(SET));
            let incr = measure(threads, keys, |key| {
                black_box(dict.increment(key, 1.0, None));
            });
            let set_expiring = measure(threads, keys, set(EXPIRING));
            let get_expiring = measure(threads, keys, get);
            let set_text = measure(threads, keys, |key| {
                black_box(dict.store(key, Value::Text(text.as_bytes()), SET));
            });
            let get_text = measure(threads, keys, |key| {
                let mut out = [0; 64];
                dict.get(key, false, |found| {
                    found.text(|piece| out[..piece.len()].copy_from_slice(piece));
                });
                black_box(out);
            });
            report(&format!(
                "dictionary, {name}, {threads} threads: get {get_number:.0}, set {set_number:.0}, incr {incr:.0}; \
                 expiring: get {get_expiring:.0}, set {set_expiring:.0}; text: get {get_text:.0}, set {set_text:.0}"
            ));
        }
    }
}

#[allow(clippy::print_stdout)]
fn report(line: &str) {
    println!("{line}");
}

/// Nanoseconds of CPU time per operation.
fn measure(threads: usize, keys: &[String], operation: impl Fn(&[u8]) + Sync) -> f64 {
    let run = |thread: usize| {
        let mut at = thread * 7919 % keys.len();
        let started = time::thread_cpu_ns();
        for _ in 0..ROUNDS {
            operation(keys[at].as_bytes());
            at = (at + 1) % keys.len();
        }
        time::thread_cpu_ns() - started
    };
    let spent: u64 = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..threads)
            .map(|thread| {
                scope.spawn({
                    let run = &run;
                    move || run(thread)
                })
            })
            .collect();
        runs.into_iter().map(|run| run.join().unwrap_or(0)).sum()
    });
    spent as f64 / (ROUNDS * threads) as f64
}
