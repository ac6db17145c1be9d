//! `MySQL` 8's side of a login, as far as clients meet it: `MariaDB` does not know `caching_sha2_password`.
//! <https://dev.mysql.com/doc/dev/mysql-server/latest/page_caching_sha2_authentication_exchanges.html>
//!
//! The password is always `ngx_test`. A user's name says how it logs in: `ngx_sha2…` with `caching_sha2_password`,
//! `ngx_sha256…` with `sha256_password`, `ngx_native…` with `mysql_native_password`; `…_nopass` has none, and `…_tls` is let
//! in only over TLS. Two ports differ in what the greeting proposes, so that the one or the other has to be switched from.
//! Every query but `FLUSH PRIVILEGES`, which forgets the user's password, is answered with one row on how the login was.
use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::digest::{Algorithm, SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::rsa::{KeySize, OAEP_SHA1_MGF1SHA1, OaepPrivateDecryptingKey, PrivateDecryptingKey};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::launch::Place;
use super::{NAME, Service, Variables};
use crate::port::Port;

const NATIVE: &str = "mysql_native_password";
const SHA256_PLAIN: &str = "sha256_password";
const CACHING: &str = "caching_sha2_password";

// LONG_PASSWORD, FOUND_ROWS, LONG_FLAG, CONNECT_WITH_DB, PROTOCOL_41, SSL, TRANSACTIONS, SECURE_CONNECTION, MULTI_RESULTS,
// PLUGIN_AUTH, PLUGIN_AUTH_LENENC_CLIENT_DATA
const CAPABILITIES: u32 = 0x2000 | 0x0f | 0x200 | 0x8000 | TLS | 0x2_0000 | 0x8_0000 | LENENC;
const TLS: u32 = 0x800;
const WITH_DATABASE: u32 = 8;
const LENENC: u32 = 0x20_0000;

/// What the connections of a server share.
struct Shared {
    /// The plugin that the greeting names.
    proposed: &'static str,
    tls: Arc<ServerConfig>,
    key: Arc<OaepPrivateDecryptingKey>,
    /// In PEM.
    public_key: String,
    /// Users whose passwords are in the cache, of both ports.
    known: Arc<Mutex<BTreeSet<String>>>,
}

/// Two listeners of this process; they end with it.
pub(super) fn mysql8(place: &Place) -> io::Result<Service> {
    let refused = |_| io::Error::other("no RSA key");
    place.certificate()?;
    let key = PrivateDecryptingKey::generate(KeySize::Rsa2048).map_err(refused)?;
    let der: PublicKeyX509Der<'_> = key.public_key().as_der().map_err(refused)?;
    let lines: Vec<String> = STANDARD
        .encode(der.as_ref())
        .as_bytes()
        .chunks(64)
        .map(|line| String::from_utf8_lossy(line).into())
        .collect();
    let public_key = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"));
    let key = Arc::new(OaepPrivateDecryptingKey::new(key).map_err(refused)?);
    let tls = Arc::new(tls_config(place)?);
    let known = Arc::new(Mutex::new(BTreeSet::new()));
    let mut variables = Variables::from([("MYSQL8_CA", place.path("ca.pem"))]);
    let mut ports = Vec::new();
    for (name, proposed) in [("MYSQL8_PORT", CACHING), ("MYSQL8_NATIVE_PORT", NATIVE)] {
        let port = Port::reserve()?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port.number()))?;
        let shared = Arc::new(Shared {
            proposed,
            tls: tls.clone(),
            key: key.clone(),
            public_key: public_key.clone(),
            known: known.clone(),
        });
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let shared = shared.clone();
                // A client that breaks off is no concern of the server's.
                std::thread::spawn(move || serve(&shared, socket));
            }
        });
        variables.insert(name, port.number().to_string());
        ports.push(port);
    }
    Ok(Service { variables, children: Vec::new(), _ports: ports })
}

fn tls_config(place: &Place) -> io::Result<ServerConfig> {
    let read = |name: &str| std::fs::read(place.path(name));
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read("cert.pem")?).collect();
    let key = PrivateKeyDer::from_pem_slice(&read("key.pem")?).map_err(io::Error::other)?;
    ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_single_cert(chain.map_err(io::Error::other)?, key)
        .map_err(io::Error::other)
}

/// A connection, in clear or not.
trait Wire: Read + Write {}
impl<T: Read + Write> Wire for T {}

struct Connection {
    wire: Box<dyn Wire>,
    number: u8,
}

impl Connection {
    fn read(&mut self) -> io::Result<Vec<u8>> {
        let mut head = [0; 4];
        self.wire.read_exact(&mut head)?;
        let [a, b, c, number] = head;
        self.number = number;
        let mut data = vec![0; usize::from(a) | usize::from(b) << 8 | usize::from(c) << 16];
        self.wire.read_exact(&mut data)?;
        Ok(data)
    }

    fn write(&mut self, data: &[u8]) -> io::Result<()> {
        self.number = self.number.wrapping_add(1);
        let [a, b, c, _] = u32::try_from(data.len()).map_err(io::Error::other)?.to_le_bytes();
        let mut packet = vec![a, b, c, self.number];
        packet.extend_from_slice(data);
        self.wire.write_all(&packet)?;
        self.wire.flush()
    }

    fn ok(&mut self) -> io::Result<()> {
        self.write(&[0, 0, 0, 2, 0, 0, 0])
    }

    fn refuse(&mut self, user: &str) -> io::Result<()> {
        let text = format!("Access denied for user '{user}'@'localhost' (using password: YES)");
        let mut packet = vec![0xff];
        packet.extend_from_slice(&1045_u16.to_le_bytes());
        packet.extend_from_slice(b"#28000");
        packet.extend_from_slice(text.as_bytes());
        self.write(&packet)
    }
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "malformed packet")
}

fn hash(algorithm: &'static Algorithm, parts: &[&[u8]]) -> Vec<u8> {
    digest(algorithm, &parts.concat()).as_ref().to_vec()
}

fn xor(a: &[u8], b: &[u8]) -> Vec<u8> {
    a.iter().zip(b.iter().cycle()).map(|(a, b)| a ^ b).collect()
}

/// Twenty bytes that nobody can guess, none of them 0 or `$`.
fn scramble() -> io::Result<[u8; 20]> {
    let mut bytes = [0; 20];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| io::Error::other("no randomness"))?;
    Ok(bytes.map(|byte| byte % 90 + 37))
}

fn greeting(plugin: &str, scramble: &[u8; 20]) -> Vec<u8> {
    let mut packet = b"\x0a8.4.0-test\0\x07\0\0\0".to_vec();
    packet.extend_from_slice(&scramble[..8]);
    let capabilities = CAPABILITIES.to_le_bytes();
    packet.push(0);
    packet.extend_from_slice(&capabilities[..2]);
    packet.extend_from_slice(b"\xff\x02\0");
    packet.extend_from_slice(&capabilities[2..]);
    packet.push(21);
    packet.extend_from_slice(&[0; 10]);
    packet.extend_from_slice(&scramble[8..]);
    packet.push(0);
    packet.extend_from_slice(plugin.as_bytes());
    packet.push(0);
    packet
}

/// What a client answers to a greeting.
struct Response {
    user: String,
    proof: Vec<u8>,
    plugin: String,
}

impl Response {
    fn parse(packet: &[u8]) -> Option<Self> {
        let flags = u32::from_le_bytes(*packet.first_chunk()?);
        let mut rest = packet.get(32..)?;
        let text = |rest: &mut &[u8]| -> Option<String> {
            let end = rest.iter().position(|byte| *byte == 0)?;
            let text = String::from_utf8(rest.get(..end)?.to_vec()).ok();
            *rest = rest.get(end + 1..)?;
            text
        };
        let user = text(&mut rest)?;
        let (len, behind) = rest.split_first()?;
        // Longer ones have a length of another form; no plugin here is given any.
        let (proof, behind) = behind.split_at_checked(usize::from(*len))?;
        rest = behind;
        if flags & WITH_DATABASE != 0 {
            text(&mut rest)?;
        }
        Some(Self { user, proof: proof.to_vec(), plugin: text(&mut rest)? })
    }
}

/// How a login went.
struct Login {
    user: String,
    plugin: &'static str,
    way: &'static str,
    is_tls: bool,
}

fn serve(shared: &Shared, socket: TcpStream) -> io::Result<()> {
    socket.set_read_timeout(Some(Duration::from_secs(20)))?;
    socket.set_nodelay(true)?;
    let mut connection = Connection { wire: Box::new(socket.try_clone()?), number: 255 };
    let scramble = scramble()?;
    connection.write(&greeting(shared.proposed, &scramble))?;
    let mut packet = connection.read()?;
    let flags = u32::from_le_bytes(*packet.first_chunk().ok_or_else(malformed)?);
    let is_tls = flags & TLS != 0;
    if is_tls {
        if packet.len() != 32 {
            return Err(malformed());
        }
        let session = ServerConnection::new(shared.tls.clone()).map_err(io::Error::other)?;
        connection.wire = Box::new(StreamOwned::new(session, socket));
        packet = connection.read()?;
    }
    let response = Response::parse(&packet).ok_or_else(malformed)?;
    let user = response.user.clone();
    match log_in(shared, &mut connection, response, scramble, is_tls)? {
        Some(login) => {
            connection.ok()?;
            answer(shared, &mut connection, &login)
        }
        None => connection.refuse(&user),
    }
}

/// `None` for a user who is not let in.
fn log_in(
    shared: &Shared,
    connection: &mut Connection,
    response: Response,
    mut scramble: [u8; 20],
    is_tls: bool,
) -> io::Result<Option<Login>> {
    let Response { user, mut proof, plugin: given } = response;
    let plugin = match &user {
        user if user.starts_with("ngx_sha256") => SHA256_PLAIN,
        user if user.starts_with("ngx_sha2") => CACHING,
        user if user.starts_with("ngx_native") => NATIVE,
        _ => return Ok(None),
    };
    if user.ends_with("_tls") && !is_tls {
        return Ok(None);
    }
    let password: &[u8] = if user.ends_with("_nopass") { b"" } else { NAME.as_bytes() };
    if given != plugin {
        scramble = self::scramble()?;
        let mut packet = vec![0xfe];
        packet.extend_from_slice(plugin.as_bytes());
        packet.push(0);
        packet.extend_from_slice(&scramble);
        packet.push(0);
        connection.write(&packet)?;
        proof = connection.read()?;
    }
    let way = match plugin {
        NATIVE => is_native_proof(password, &scramble, &proof).then_some("scramble"),
        SHA256_PLAIN => plain_sha256(shared, connection, password, &scramble, proof, is_tls)?,
        _ => caching_sha2(shared, connection, &user, password, &scramble, &proof, is_tls)?,
    };
    Ok(way.map(|way| Login { user, plugin, way, is_tls }))
}

/// `SHA1(password) XOR SHA1(scramble, SHA1(SHA1(password)))`; nothing for no password.
fn is_native_proof(password: &[u8], scramble: &[u8], proof: &[u8]) -> bool {
    let sha1 = &SHA1_FOR_LEGACY_USE_ONLY;
    if password.is_empty() {
        return proof.is_empty();
    }
    let stored = hash(sha1, &[&hash(sha1, &[password])]);
    let once = xor(proof, &hash(sha1, &[scramble, &stored]));
    proof.len() == 20 && hash(sha1, &[&once]) == stored
}

fn caching_sha2(
    shared: &Shared,
    connection: &mut Connection,
    user: &str,
    password: &[u8],
    scramble: &[u8],
    proof: &[u8],
    is_tls: bool,
) -> io::Result<Option<&'static str>> {
    if password.is_empty() || proof.is_empty() {
        return Ok((password.is_empty() && proof.is_empty()).then_some("empty"));
    }
    let is_known = shared.known.lock().is_ok_and(|known| known.contains(user));
    if is_known {
        // What the cache has: the digest of the digest.
        let stored = hash(&SHA256, &[&hash(&SHA256, &[password])]);
        let once = xor(proof, &hash(&SHA256, &[&stored, scramble]));
        if proof.len() == 32 && hash(&SHA256, &[&once]) == stored {
            connection.write(b"\x01\x03")?;
            return Ok(Some("fast"));
        }
    }
    connection.write(b"\x01\x04")?;
    let given = connection.read()?;
    let (way, given) = match (is_tls, given.as_slice()) {
        (true, _) => ("tls", given),
        (false, [2]) => ("rsa", exchange(shared, connection, scramble)?),
        // A password in clear, which everybody on the way has read.
        (false, _) => return Ok(None),
    };
    if given.strip_suffix(&[0]) != Some(password) {
        return Ok(None);
    }
    if let Ok(mut known) = shared.known.lock() {
        known.insert(user.to_owned());
    }
    Ok(Some(way))
}

fn plain_sha256(
    shared: &Shared,
    connection: &mut Connection,
    password: &[u8],
    scramble: &[u8],
    proof: Vec<u8>,
    is_tls: bool,
) -> io::Result<Option<&'static str>> {
    let (way, given) = match (is_tls, proof.as_slice()) {
        (_, []) | (_, [0]) => return Ok(password.is_empty().then_some("empty")),
        (true, _) => ("tls", proof),
        (false, [1]) => ("rsa", exchange(shared, connection, scramble)?),
        (false, _) => return Ok(None),
    };
    Ok((given.strip_suffix(&[0]) == Some(password)).then_some(way))
}

/// Shows the key, and reads the password that comes encrypted with it.
fn exchange(shared: &Shared, connection: &mut Connection, scramble: &[u8]) -> io::Result<Vec<u8>> {
    let mut packet = vec![1];
    packet.extend_from_slice(shared.public_key.as_bytes());
    connection.write(&packet)?;
    let sealed = connection.read()?;
    let mut out = vec![0; shared.key.min_output_size()];
    let plain = shared.key.decrypt(&OAEP_SHA1_MGF1SHA1, &sealed, &mut out, None);
    Ok(plain.map(|plain| xor(plain, scramble)).unwrap_or_default())
}

/// Answers queries until the client leaves.
fn answer(shared: &Shared, connection: &mut Connection, login: &Login) -> io::Result<()> {
    loop {
        let command = connection.read()?;
        match command.split_first() {
            Some((3, b"FLUSH PRIVILEGES")) => {
                if let Ok(mut known) = shared.known.lock() {
                    known.remove(&login.user);
                }
                connection.ok()?;
            }
            Some((3, _)) => describe(connection, login)?,
            Some((14, _)) => connection.ok()?,
            _ => return Ok(()),
        }
    }
}

/// One row: `plugin`, `way`, `tls`.
fn describe(connection: &mut Connection, login: &Login) -> io::Result<()> {
    let text = |packet: &mut Vec<u8>, text: &str| {
        packet.push(u8::try_from(text.len()).unwrap_or(0));
        packet.extend_from_slice(text.as_bytes());
    };
    connection.write(&[3])?;
    for name in ["plugin", "way", "tls"] {
        let mut packet = Vec::new();
        for part in ["def", "", "", "", name, ""] {
            text(&mut packet, part);
        }
        // utf8, 255 characters, a string of variable length
        packet.extend_from_slice(b"\x0c\x21\0\xff\0\0\0\xfd\0\0\0\0\0");
        connection.write(&packet)?;
    }
    connection.write(b"\xfe\0\0\x02\0")?;
    let mut row = Vec::new();
    for value in [login.plugin, login.way, if login.is_tls { "yes" } else { "no" }] {
        text(&mut row, value);
    }
    connection.write(&row)?;
    connection.write(b"\xfe\0\0\x02\0")
}
