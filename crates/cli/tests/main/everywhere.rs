//! Every variable in every place that takes one: nothing is asked while it is being changed, whatever the client sends.

use crate::{builder, responses};
use moonrest_testkit::Server;

const VARIABLES: &str = "$ancient_browser $arg_a $args $binary_remote_addr $body_bytes_sent $bytes_sent $connection \
    $connection_requests $connection_time $content_length $content_type $cookie_a $date_gmt $date_local $document_root \
    $document_uri $geo_text $gzip_ratio $hostname $host $http_x $http_cookie $https $invalid_referer $is_args \
    $limit_rate $limit_conn_status $limit_req_status $modern_browser $msec $nginx_version $pid $pipe \
    $proxy_protocol_addr $proxy_protocol_tlv_ssl $query_string $realip_remote_addr $realpath_root $remote_addr \
    $remote_user $request $request_body $request_body_file $request_completion $request_filename $request_id \
    $request_length $request_method $request_time $request_uri $scheme $secure_link $secure_link_expires \
    $sent_http_content_length $sent_http_content_type $sent_http_last_modified $sent_http_location $sent_http_x \
    $sent_trailer_x $server_addr $server_name $server_port $server_protocol $status $tcpinfo_rtt \
    $time_iso8601 $time_local $uid_got $uid_set $uri $group";

fn server() -> Server {
    let conf = r##"worker_processes 1;
        http {
            log_format all escape=json '$all VARIABLES';
            log_format raw escape=none '$all VARIABLES';
            access_log logs/all.log all;
            access_log logs/raw.log raw if=$all;
            map "VARIABLES" $all { volatile; default "VARIABLES"; ~^(?<group>x+)$ $group$1; }
            map $all $fallen { hostnames; default $all; *.example.com a; www.example.* b; ~a(.)c $1; }
            geo $arg_a $geo_text { default a; 10.0.0.0/8 b; ::/0 c; }
            map "$round_b$round_c$round_b" $round_a { default "$round_b$round_c"; }
            map "$round_a$round_c" $round_b { default "$round_a$round_c"; }
            map "$round_a$round_b" $round_c { default "$round_a$round_b"; }
            split_clients $all $split { 50% a; * b; }
            limit_req_zone $all zone=requests:1m rate=9999r/s;
            limit_conn_zone $all zone=connections:1m;
            server {
                listen {{addr}};
                server_name ~^(?<sub>.+)\.example\.com$ default "";
                root {{root}}/html;
                add_header X "$all" always;
                add_trailer X "$all" always;
                userid on; valid_referers none blocked server_names ~a+b *.example.com;
                limit_req zone=requests burst=999999 nodelay; limit_conn connections 1000;
                charset $arg_charset; expires $arg_expires; limit_rate $arg_rate; limit_rate_after $arg_after;
                secure_link $arg_md5,$arg_expires; secure_link_md5 "$all";
                server_tokens on;
                error_page 404 =200 /error?$all;
                location /return { return 200 "$all$fallen$split"; }
                location /cycle { return 200 "$round_a."; }
                location /moved { return 301 "/$all"; }
                location /set { set $fallback "$all$arg_a"; return 200 $fallback; }
                location /if { if ($all ~ "(a+)(?<named>b*)") { return 200 "$1$named$all"; } }
                location /rewrite { rewrite ^/rewrite/(.*)$ /return/$1?$all last; }
                location /try { try_files $uri /$all /$arg_a @last; }
                location @last { add_header Y $all; return 404; }
                location /error { internal; ssi on; ssi_types *; types { } default_type text/html; try_files /page.html =404; }
                location /index/ { index $arg_a index-$host.html page.html; ssi on; sub_filter a$arg_a "$all"; sub_filter_once off; }
                location /auth { auth_basic "$all"; auth_basic_user_file users-$arg_a; }
                location /guard { auth_request /return; auth_request_set $got $sent_http_x$all; return 200 $got; }
                location /mirror { mirror /return; return 200; }
                location /alias { alias {{root}}/html/$arg_a; autoindex on; }
                location /files { root {{root}}/html/$all; }
                location /log { access_log logs/$arg_a-x.log all; return 200; }
                location /gzip { gzip on; gzip_min_length 0; gzip_types *; default_type text/html; return 200 "$all$all$all"; }
            }
        }"##;
    let page = VARIABLES.split_whitespace().map(|name| {
        let name = name.trim_start_matches('$');
        format!("<!--# echo var=\"{name}\" --><!--# set var=\"v\" value=\"${name}\" --><!--# if expr=\"${name} = /(.)a/\" -->\
                 <!--# echo var=\"1\" --><!--# endif -->")
    });
    let page: String = page.chain(["<!--# include virtual=\"/return?$all\" -->".to_owned()]).collect();
    builder()
        .file("html/page.html", page.as_str())
        .file("html/index/page.html", page.as_str())
        .start(&conf.replace("VARIABLES", VARIABLES))
}

const PATHS: [&str; 19] = [
    "cycle",
    "return",
    "moved",
    "set",
    "if",
    "rewrite/x",
    "try",
    "error",
    "index/",
    "auth",
    "guard",
    "mirror",
    "alias",
    "alias/",
    "files/",
    "log",
    "gzip",
    "nowhere",
    "page.html",
];

/// Arguments and fields as hostile as a head may carry them.
const TEXTS: [&str; 11] = [
    "plain",
    "",
    "%00%0d%0a%",
    "../../../etc/passwd",
    "999999999999999999999",
    "-1",
    "18446744073709551615",
    "\u{e9}\u{ff}$1$all${",
    "max",
    "@2000000000h",
    "utf-8",
];

#[test]
fn every_variable_may_be_asked_for_anywhere() {
    let server = server();
    for path in PATHS {
        for text in TEXTS {
            let mut client = server.connect();
            // Names of files and rates are the administrator's to choose: those of this test let the client do so.
            client.send(format!(
                "GET /{path}?a={text}&charset={text}&expires={text}&after={text}&md5={text}&c HTTP/1.1\r\n\
                 Host: a.example.com\r\nX: {text}\r\nCookie: a={text}; uid={text}; {text}\r\nReferer: {text}\r\n\
                 User-Agent: {text}\r\nRange: bytes={text}-{text}\r\nIf-Range: {text}\r\nAccept-Encoding: gzip;q={text}\r\n\
                 Authorization: Basic {text}\r\nIf-Modified-Since: {text}\r\nIf-None-Match: {text}\r\n\
                 Content-Length: 3\r\nConnection: close\r\n\r\nabc"
            ));
            let answers = responses(&client.read_to_end());
            assert_eq!(answers.len(), 1, "{path} {text:?}");
        }
    }
    // Texts of the longest kind a head takes, made of what is looked for.
    for text in [".".repeat(7000), ",".repeat(7000), ";=".repeat(3500), "a=&".repeat(2300), "%2".repeat(3500)]
    {
        let mut client = server.connect();
        client.send(format!(
            "GET /return?{text} HTTP/1.1\r\nHost: a\r\nX: {text}\r\nCookie: {text}\r\nRange: bytes={text}\r\n\
             Accept-Encoding: {text}\r\nConnection: close\r\n\r\n"
        ));
        assert_eq!(responses(&client.read_to_end()).len(), 1, "{:?}", text.get(..3));
    }
}

#[test]
fn a_rule_that_cannot_be_decided_is_not_passed() {
    let mut server = builder().start(
        r#"http {
            map $arg_a $allowed { default yes; "~^((a|aa)+)*[^a]$" no; }
            server { listen {{addr}}; location / { if ($allowed = no) { return 403; } return 200 passed; } }
        }"#,
    );
    server.allow_log("pcre2_match() failed");
    server.get("/?a=ab").expect_status(403);
    server.get("/?a=aa").expect_status(200).expect_body("passed");
    let text = "a".repeat(200) + "abaa";
    let answers = responses(&{
        let mut client = server.connect();
        client.send(format!("GET /?a={text} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"));
        client.read_to_end()
    });
    assert!(!answers.iter().any(|answer| answer.status == Some(200)), "{answers:?}");
}
