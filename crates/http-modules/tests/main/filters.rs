//! Order, back-pressure, flushes and ends of bodies that filters and subrequests make together.

use crate::engine::{Ask, keep_body};
use moonrest_http::RequestError;
use moonrest_proto::http1::Method;
use std::io::{Read, Write};

fn gunzip(data: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    flate2::read::GzDecoder::new(data).read_to_end(&mut text).expect("a complete gzip stream");
    text
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

/// A server with a page at `/`, server-side includes on.
fn pages(page: &str, others: &str) -> String {
    keep_body("page", page.into(), None);
    format!("ssi on; location = / {{ script 'body page'; }} {others}")
}

#[test]
fn included_pages_run_side_by_side_and_come_out_in_order() {
    let server = pages(
        "<!--#include virtual='/a' --> and <!--#include virtual='/b' -->.",
        "location /a { script A1 'wait b' A2; } location /b { script B1 'open b' B2; }",
    );
    let done = Ask::new(server, "/").run();
    assert_eq!(done.text(), "A1A2 and B1B2.");
    assert!(done.client.ended.get() && done.result.is_ok());
}

#[test]
fn an_include_that_waits_is_done_before_the_page_goes_on() {
    let server = pages(
        "<!--#include virtual='/a' wait='yes' --><!--#echo var='v' -->|<!--#include virtual='/c' set='w' --><!--#echo var='w' -->",
        "location /a { script '<!--#set var=\"v\" value=\"set\" -->A'; } location /c { script 'open none' captured; }",
    );
    assert_eq!(Ask::new(server, "/").run().text(), "Aset|captured");
}

#[test]
fn pages_within_pages_keep_their_order() {
    let server = pages(
        "1<!--#include virtual='/a' -->5<!--#include virtual='/b' -->9",
        "location /a { script '2<!--#include' ' virtual=\"/c\" -->4'; } location /c { script 'wait d' 3; }
         location /b { script '6<!--#include virtual=\"/d\" -->8'; } location /d { script 'open d' 7; }",
    );
    assert_eq!(Ask::new(server, "/").run().text(), "123456789");
}

#[test]
fn a_page_that_includes_itself_ends() {
    let server = pages("x<!--#include virtual='/' -->y", "");
    let text = Ask::new(server, "/").run().text();
    assert_eq!(text.matches('x').count(), 51);
    assert!(text.contains("[an error occurred while processing the directive]"));
    // As deep as it goes, with all filters at work.
    let server = pages(
        "x<!--#include virtual='/' wait='yes' -->y",
        "sub_filter x z; sub_filter_once off; charset utf-8; source_charset utf-8; gzip on; gunzip on;",
    );
    assert_eq!(Ask::new(server, "/").run().text().matches('z').count(), 51);
}

#[test]
fn what_waits_for_its_turn_is_bounded() {
    let server = pages(
        "<!--#include virtual='/a' --><!--#include virtual='/b' -->",
        "location /a { script 'wait b' A; } location /b { script 'open b' 'repeat 3000 bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb' E; }",
    );
    let done = Ask::new(server, "/").run();
    let text = done.text();
    assert!(text.starts_with("Abb") && text.ends_with("bbE"));
    assert_eq!(text.len(), 3000 * 63 + 2);
    assert!(done.client.most_queued.get() < 160 * 1024, "{}", done.client.most_queued.get());
}

#[test]
fn variables_do_not_grow_for_ever() {
    let page = format!(
        "<!--#set var='a' value='0123456789' -->{}<!--#echo var='a' -->",
        "<!--#set var='a' value='$a$a' -->".repeat(60)
    );
    let text = Ask::new(pages(&page, ""), "/").run().text();
    assert!(text.contains("[an error occurred") && text.len() < 2_000_000);
}

#[test]
fn a_stub_stands_for_what_is_empty_or_fails() {
    let block = "<!--#block name='s' -->[<!--#echo var='uri' -->]<!--#endblock -->";
    let server = pages(
        &format!(
            "{block}<!--#include virtual='/empty' stub='s' --><!--#include virtual='/gone' stub='s' -->\
             <!--#include virtual='/none' stub='s' --><!--#include virtual='/text' stub='s' -->"
        ),
        "location /empty { script ''; } location /gone { return 404; } location /none { return 204; }
         location /text { script text; }",
    );
    assert_eq!(Ask::new(server, "/").run().text(), "[/empty][/gone][/none]text");
}

#[test]
fn an_answer_too_large_for_a_variable_ends_the_request() {
    let page = "<!--#include virtual='/a' set='v' --><!--#echo var='v' -->";
    let of = |size: u32| {
        pages(page, &format!("location /a {{ subrequest_output_buffer_size {size}; script 12345 67890; }}"))
    };
    assert_eq!(Ask::new(of(10), "/").run().text(), "1234567890");
    let done = Ask::new(of(9), "/").run();
    assert!(matches!(done.result, Err(RequestError::Cut(_))) && !done.client.ended.get());
}

#[test]
fn a_large_body_is_compressed_in_little_memory() {
    let text = "<p>0123456789abcdef</p>".repeat(20_000);
    let mut ask = Ask::new("gzip on; location / { script 'repeat 20 A' 'body page'; }", "/");
    keep_body("page", text.clone().into(), None);
    ask.headers = vec![("Accept-Encoding", "gzip")];
    let done = ask.run();
    assert_eq!(gunzip(&done.body()), ["A".repeat(20), text].concat().into_bytes());
    assert_eq!(done.request.out().content_encoding.as_deref(), Some(&b"gzip"[..]));
}

#[test]
fn a_bomb_is_unpacked_no_faster_than_the_client_takes_it() {
    keep_body("bomb", gzip(&vec![b'x'; 6_000_000]), Some(b"gzip"));
    let mut ask = Ask::new("gunzip on; location / { script 'body bomb'; }", "/");
    ask.step = 100_000;
    let done = ask.run();
    assert_eq!(done.body().len(), 6_000_000);
    assert!(done.client.most_queued.get() < 256 * 1024, "{}", done.client.most_queued.get());

    let mut ask = Ask::new("gunzip on; location / { script 'body bomb'; }", "/");
    ask.leaves_after = 1_000_000;
    let done = ask.run();
    assert!(matches!(done.result, Err(RequestError::Gone { .. })));
    assert!(done.body().len() < 1_300_000);
}

#[test]
fn long_replacements_leave_no_faster_than_the_client_takes_them() {
    let long = "y".repeat(3000);
    let server = format!("sub_filter x {long}; sub_filter_once off; location / {{ script 'body page'; }}");
    keep_body("page", vec![b'x'; 2000], None);
    let done = Ask::new(server, "/").run();
    assert_eq!(done.body().len(), 2000 * 3000);
    assert!(done.client.most_queued.get() < 256 * 1024, "{}", done.client.most_queued.get());
}

#[test]
fn a_broken_stream_ends_the_request_visibly() {
    let mut broken = gzip(&vec![b'x'; 100_000]);
    broken.truncate(broken.len() - 3);
    keep_body("broken", broken, Some(b"gzip"));
    let done = Ask::new("gunzip on; location / { script 'body broken'; }", "/").run();
    assert!(done.result.is_err() && !done.client.ended.get());
}

#[test]
fn a_flush_lets_out_what_filters_hold() {
    let mut ask = Ask::new("gzip on; gzip_min_length 1; location / { script one flush two; }", "/");
    ask.headers = vec![("Accept-Encoding", "gzip")];
    let done = ask.run();
    let flushed = done.client.flushed.borrow()[0];
    let mut so_far = [0; 10];
    let body = done.body();
    let n = flate2::read::GzDecoder::new(&body[..flushed]).read(&mut so_far).unwrap();
    assert_eq!(&so_far[..n], b"one");
    assert_eq!(gunzip(&body), b"onetwo");
    // What may become a match is held even then.
    let server = "sub_filter abc X; location / { script 1ab flush c2 a flush; }";
    assert_eq!(Ask::new(server, "/").run().text(), "1X2a");
}

#[test]
fn what_a_filter_holds_goes_before_what_is_added() {
    let server = "location = / { add_after_body /after; sub_filter abc X; ssi on; script 'xab'; }
                  location = /s { add_after_body /after; ssi on; script 'x<!-'; }
                  location /after { script '[c]'; }";
    assert_eq!(Ask::new(server, "/").run().text(), "xab[c]");
    assert_eq!(Ask::new(server, "/s").run().text(), "x<!-[c]");
}

#[test]
fn subrequests_are_compressed_with_their_page() {
    let server = pages(
        "a<!--#include virtual='/b' -->c",
        "gzip on; gzip_min_length 1; location /b { add_after_body /d; script b; } location /d { script d; }",
    );
    let mut ask = Ask::new(server, "/");
    ask.headers = vec![("Accept-Encoding", "gzip")];
    assert_eq!(gunzip(&ask.run().body()), b"abc");
}

#[test]
fn a_head_request_gets_no_body() {
    let server = pages("a<!--#include virtual='/b' -->", "gzip on; location /b { script b; }");
    let mut ask = Ask::new(server, "/");
    ask.method = Method::Head;
    ask.headers = vec![("Accept-Encoding", "gzip")];
    let done = ask.run();
    assert!(done.result.is_ok());
    assert_eq!(done.text(), "");
    assert_eq!(done.request.out().content_encoding.as_deref(), Some(&b"gzip"[..]));
}

#[test]
fn a_client_that_leaves_ends_all_subrequests() {
    let server = pages(
        "<!--#include virtual='/a' --><!--#include virtual='/b' -->",
        "location /a { script 'repeat 100000 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'; }
         location /b { script 'wait never'; }",
    );
    let mut ask = Ask::new(server, "/");
    ask.leaves_after = 100_000;
    let done = ask.run();
    assert!(matches!(done.result, Err(RequestError::Gone { .. })));
    // Nothing of them is left that would keep their parent.
    let before = std::rc::Rc::strong_count(&done.request);
    assert_eq!(before, 1);
}
