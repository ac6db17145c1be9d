//! Parses one kind of head again and again, to count instructions:
//! `valgrind --tool=callgrind target/release/examples/head_cost request 1000`, and again with 2000.

use moonrest_proto::http1::{HeadLimits, RequestHead, framing};

const SMALL: &[u8] =
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\n\r\n";
const BROWSER: &[u8] = b"GET /static/app/main.8f2c1d.js?v=12345 HTTP/1.1\r\nHost: www.example.com\r\n\
User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n\
Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n\
Accept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br, zstd\r\nReferer: https://www.example.com/start\r\n\
Cookie: session=0123456789abcdef0123456789abcdef; theme=dark; consent=yes\r\nConnection: keep-alive\r\n\
Upgrade-Insecure-Requests: 1\r\nSec-Fetch-Dest: document\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Site: none\r\nPriority: u=0, i\r\n\r\n";

fn main() {
    let mut args = std::env::args().skip(1);
    let what = args.next().unwrap_or_default();
    let rounds: usize = args.next().and_then(|n| n.parse().ok()).unwrap_or(1000);
    let limits = HeadLimits::default();
    let mut head = RequestHead::new();
    let buf = if what.starts_with("browser") { BROWSER } else { SMALL };
    for _ in 0..rounds {
        let buf = std::hint::black_box(buf);
        let parsed = head.parse(buf, &limits);
        std::hint::black_box(&parsed);
        if what.ends_with("framing") {
            let framing = framing(&head, buf);
            std::hint::black_box(&framing);
        }
        std::hint::black_box(&head);
    }
}
