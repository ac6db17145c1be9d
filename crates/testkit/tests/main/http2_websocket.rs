//! WebSockets as streams of HTTP/2 (RFC 8441): answered by Lua, passed to servers of HTTP/1, refused.
#![allow(clippy::unwrap_used, reason = "a test stops by panicking")]

use bytes::{Buf, Bytes};
use h2::{Reason, RecvStream, SendStream, client::SendRequest, ext::Protocol};
use http::{HeaderMap, Method, Request, StatusCode};
use moonrest_testkit::{
    Server,
    upstream::{Act, Upstream},
};
use std::{net::SocketAddr, time::Duration};
use tokio::net::TcpStream;

/// A server with a WebSocket that answers what it gets, and locations that pass to it.
fn conf(extra: &str) -> String {
    format!(
        "master_process off;
        http {{
            server {{
                listen {{{{addr}}}};
                http2 on;
                http2_websocket on;
                location /echo {{
                    content_by_lua_block {{
                        local ws, err = require('resty.websocket.server'):new{{ max_payload_len = 4000000 }}
                        if not ws then
                            ngx.log(ngx.ERR, 'no websocket: ', err)
                            return ngx.exit(400)
                        end
                        while true do
                            local data, kind = ws:recv_frame()
                            if kind == 'text' or kind == 'binary' then
                                ws['send_' .. kind](ws, data == 'version' and tostring(ngx.req.http_version()) or data)
                            elseif kind == 'ping' then
                                ws:send_pong(data)
                            else
                                ws:send_close(1000, '')
                                return
                            end
                        end
                    }}
                }}
                location /proxy/ {{
                    proxy_pass http://{{{{addr}}}}/echo;
                    proxy_http_version 1.1;
                    proxy_set_header Upgrade $http_upgrade;
                    proxy_set_header Connection $http_connection;
                }}
                location /plain {{ return 200 hello; }}
                location /denied {{ deny all; }}
                {extra}
            }}
            server {{ listen {{{{addr:other}}}}; http2 on; location / {{ return 200 hello; }} }}
        }}"
    )
}

/// Runs a client that must come to its end.
fn run(client: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(20), client).await.unwrap() });
}

/// A connection whose settings have come.
async fn connect(addr: SocketAddr) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(addr).await.unwrap();
    let (send, mut connection) = h2::client::handshake(stream).await.unwrap();
    let mut pong = connection.ping_pong().unwrap();
    tokio::spawn(connection);
    pong.ping(h2::Ping::opaque()).await.unwrap();
    send.ready().await.unwrap()
}

fn ask(protocol: &'static str, path: &str) -> Request<()> {
    Request::builder()
        .method(Method::CONNECT)
        .uri(format!("http://localhost{path}"))
        .extension(Protocol::from_static(protocol))
        .header("sec-websocket-version", "13")
        .header("sec-websocket-protocol", "chat")
        .body(())
        .unwrap()
}

/// A WebSocket that is open.
struct Socket {
    send: SendStream<Bytes>,
    receive: RecvStream,
    unread: Vec<u8>,
    headers: HeaderMap,
}

impl Socket {
    async fn open(connection: &mut SendRequest<Bytes>, path: &str) -> Self {
        let (response, send) = connection.send_request(ask("websocket", path), false).unwrap();
        let response = response.await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        let headers = response.headers().clone();
        Self { send, receive: response.into_body(), unread: Vec::new(), headers }
    }

    async fn send_bytes(&mut self, mut bytes: Bytes) {
        while bytes.has_remaining() {
            self.send.reserve_capacity(bytes.len());
            let room = std::future::poll_fn(|cx| self.send.poll_capacity(cx)).await.unwrap().unwrap();
            let part = bytes.split_to(room.min(bytes.len()));
            self.send.send_data(part, false).unwrap();
        }
    }

    /// Sends one frame, masked with zeros.
    async fn send_frame(&mut self, opcode: u8, payload: &[u8]) {
        let mut frame = vec![0x80 | opcode];
        match payload.len() {
            len @ 0..126 => frame.push(0x80 | u8::try_from(len).unwrap()),
            len => {
                frame.push(0x80 | 127);
                frame.extend((len as u64).to_be_bytes());
            }
        }
        frame.extend([0; 4]);
        frame.extend(payload);
        self.send_bytes(frame.into()).await;
    }

    /// Waits for so many bytes; fewer at the end of the stream.
    async fn take(&mut self, count: usize) -> Vec<u8> {
        while self.unread.len() < count {
            let Some(data) = self.receive.data().await else { break };
            let data = data.unwrap();
            self.receive.flow_control().release_capacity(data.len()).unwrap();
            self.unread.extend(&data);
        }
        let rest = self.unread.split_off(count.min(self.unread.len()));
        std::mem::replace(&mut self.unread, rest)
    }

    async fn frame(&mut self) -> (u8, Vec<u8>) {
        let head = self.take(2).await;
        let len = match head[1] {
            126 => u64::from(self.take(2).await.as_slice().get_u16()),
            127 => self.take(8).await.as_slice().get_u64(),
            len => u64::from(len),
        };
        (head[0] & 0x0f, self.take(usize::try_from(len).unwrap()).await)
    }

    async fn ends(&mut self) {
        assert_eq!(self.take(1).await, b"");
        assert!(self.receive.is_end_stream());
    }
}

#[test]
fn a_websocket_is_answered_by_lua_and_through_a_proxy() {
    let server = Server::start(&conf(""));
    run(async {
        let mut connection = connect(server.addr()).await;
        assert!(connection.is_extended_connect_protocol_enabled());
        for (path, version) in [("/echo", "2"), ("/proxy/", "1.1")] {
            let mut socket = Socket::open(&mut connection, path).await;
            assert_eq!(socket.headers.get("sec-websocket-protocol").unwrap(), "chat");
            for absent in ["upgrade", "connection", "sec-websocket-accept"] {
                assert_eq!(socket.headers.get(absent), None, "{path}: {absent}");
            }
            socket.send_frame(1, b"version").await;
            assert_eq!(socket.frame().await, (1, version.as_bytes().to_vec()), "{path}");
            socket.send_frame(9, b"are you there").await;
            assert_eq!(socket.frame().await, (10, b"are you there".to_vec()), "{path}");
            socket.send_frame(8, b"").await;
            assert_eq!(socket.frame().await.0, 8, "{path}");
            socket.ends().await;
        }
    });
    let line = server.wait_for_access("/proxy/");
    assert!(line.contains("\"GET /proxy/ HTTP/2.0\" 101"), "{line}");
}

#[test]
fn streams_with_websockets_run_beside_each_other_and_beside_requests() {
    let server = Server::start(&conf(""));
    run(async {
        let mut connection = connect(server.addr()).await;
        let mut one = Socket::open(&mut connection, "/proxy/").await;
        let mut two = Socket::open(&mut connection, "/echo").await;
        let plain = Request::get("http://localhost/plain").body(()).unwrap();
        let (response, _) = connection.send_request(plain, true).unwrap();
        assert_eq!(response.await.unwrap().status(), StatusCode::OK);
        two.send_frame(1, b"two").await;
        one.send_frame(1, b"one").await;
        assert_eq!(two.frame().await, (1, b"two".to_vec()));
        assert_eq!(one.frame().await, (1, b"one".to_vec()));
        // The end of one side is the end of the other.
        one.send.send_data(Bytes::new(), true).unwrap();
        one.ends().await;
        two.send_frame(1, b"more").await;
        assert_eq!(two.frame().await, (1, b"more".to_vec()));
    });
}

#[test]
fn frames_that_are_larger_than_all_windows_come_through() {
    let server = Server::start(&conf(""));
    run(async {
        let mut connection = connect(server.addr()).await;
        for path in ["/echo", "/proxy/"] {
            let mut socket = Socket::open(&mut connection, path).await;
            let payload: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
            socket.send_frame(2, &payload).await;
            let (kind, echoed) = socket.frame().await;
            assert_eq!(kind, 2, "{path}");
            assert!(echoed == payload, "{path}: {} bytes", echoed.len());
        }
    });
}

#[test]
fn what_opens_no_websocket_is_no_success() {
    let server = Server::start(&conf(""));
    run(async {
        let mut connection = connect(server.addr()).await;
        for (protocol, path, status) in [
            ("websocket", "/plain", StatusCode::NOT_IMPLEMENTED),
            ("websocket", "/denied", StatusCode::FORBIDDEN),
            ("connect-udp", "/echo", StatusCode::NOT_IMPLEMENTED),
        ] {
            let (response, _send) = connection.send_request(ask(protocol, path), false).unwrap();
            assert_eq!(response.await.unwrap().status(), status, "{protocol} {path}");
        }
    });
    server.wait_for_access("\"GET /plain HTTP/2.0\" 501");
}

#[test]
fn a_server_of_http1_must_know_the_key() {
    let answer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                  Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    let upstream = Upstream::start(vec![vec![Act::ReadRequest, Act::send(answer)]]);
    let location = format!(
        "location /wrong {{
            proxy_pass http://{};
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection upgrade;
        }}",
        upstream.addr()
    );
    let server = Server::start(&conf(&location));
    run(async {
        let mut connection = connect(server.addr()).await;
        let (response, _send) = connection.send_request(ask("websocket", "/wrong"), false).unwrap();
        assert_eq!(response.await.unwrap_err().reason(), Some(Reason::INTERNAL_ERROR));
    });
    let asked = upstream.recorded().remove(0).text();
    for line in ["GET /wrong HTTP/1.1\r\n", "Upgrade: websocket\r\n", "Connection: upgrade\r\n"] {
        assert!(asked.contains(line), "{asked}");
    }
    assert!(asked.to_lowercase().contains("sec-websocket-key: "), "{asked}");
    assert!(server.error_log().contains("wrong \"Sec-WebSocket-Accept\""), "{}", server.error_log());
}

#[test]
fn without_the_directive_nothing_is_promised() {
    let server = Server::start(&conf(""));
    run(async {
        let connection = connect(server.named_addr("other")).await;
        assert!(!connection.is_extended_connect_protocol_enabled());
    });
}
