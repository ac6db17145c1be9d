//! `auth_basic`: access with user name and password.
//! <https://nginx.org/en/docs/http/ngx_http_auth_basic_module.html>

mod crypt;
mod des;

use moonrest_core::env::os_error;
use moonrest_http::{basic_auth, prelude::*};
use moonrest_proto::http1::Method;
use moonrest_sys::file;
use std::{
    ffi::OsStr,
    io,
    os::unix::ffi::{OsStrExt, OsStringExt},
};

/// The module.
pub struct AuthBasic;
type D = Directive<AuthBasic>;

/// Everywhere that access is decided about.
const CONTEXTS: Contexts = Contexts::HSL.or(Contexts::LIMIT_EXCEPT);

impl HttpModule for AuthBasic {
    const NAME: &'static str = "ngx_http_auth_basic_module";
    const DIRECTIVES: &'static [D] = &[
        D::new("auth_basic", CONTEXTS, Arity::exactly(1), Set::Template(|loc: &mut Loc| &mut loc.realm)),
        D::new(
            "auth_basic_user_file",
            CONTEXTS,
            Arity::exactly(1),
            Set::Template(|loc: &mut Loc| &mut loc.file),
        ),
    ];
    type Main = ();
    type Loc = Loc;

    fn attach(_main: &(), loc: &Arc<Loc>, to: &mut LocationBuilder<'_>) -> ConfResult {
        let (Some(realm), Some(file)) = (&loc.realm, &loc.file) else { return Ok(()) };
        if realm.as_static() != Some(b"off") {
            to.on(Phase::Access, Guard { realm: realm.clone(), file: file.clone() });
        }
        Ok(())
    }
}

/// What one block says.
#[derive(Clone, Default)]
pub struct Loc {
    realm: Option<Template>,
    file: Option<Template>,
}
inherit!(Loc { realm, file });

struct Guard {
    realm: Template,
    /// Below the configuration's directory, unless it is absolute.
    file: Template,
}

impl PhaseHandler for Guard {
    fn handle(&self, r: &RequestRef) -> Result<Step, RequestError> {
        let realm = self.realm.eval(&**r);
        if &*realm == b"off" {
            return Step::next();
        }
        let Some(credentials) = basic_auth::credentials(r) else {
            moonrest_http::info!(r, "no user/password was provided for basic authentication");
            return Ok(Step::Now(challenge(r, &realm)));
        };
        let user = credentials.user();
        let name = self.file.eval(&**r);
        let path = r.http().conf_prefix.join(OsStr::from_bytes(&name)).into_os_string().into_vec();
        let content = match read(&path) {
            Ok(content) => content,
            Err(error) => return Ok(Step::Now(unreadable(r, &path, &error))),
        };
        let Some(stored) = find(&content, user) else {
            let (user, path) = (String::from_utf8_lossy(user), String::from_utf8_lossy(&path));
            moonrest_http::error!(r, "user \"{user}\" was not found in \"{path}\"");
            return Ok(Step::Now(challenge(r, &realm)));
        };
        if !crypt::is_slow(stored) {
            let matches = crypt::matches(credentials.password(), stored);
            return Ok(Step::Now(decide(r, &realm, user, matches)));
        }
        let (password, stored) = (credentials.password().to_vec(), stored.to_vec());
        let (r, realm) = (r.clone(), realm.into_owned());
        Step::wait(async move {
            let check = moonrest_rt::spawn_blocking(move || crypt::matches(&password, &stored));
            let matches = check.await.map_err(|_| RequestError::internal("a thread of the pool was lost"))?;
            Ok(decide(&r, &realm, credentials.user(), matches))
        })
    }
}

fn decide(r: &RequestRef, realm: &[u8], user: &[u8], matches: bool) -> Flow {
    if matches {
        return Flow::PhaseDone;
    }
    moonrest_http::error!(r, "user \"{}\": password mismatch", String::from_utf8_lossy(user));
    challenge(r, realm)
}

/// Asks the client for a password.
fn challenge(r: &Request, realm: &[u8]) -> Flow {
    let (name, status) = match r.method.get() {
        Method::Connect => ("Proxy-Authenticate", 407),
        _ => ("WWW-Authenticate", 401),
    };
    r.out_mut().add(name, [b"Basic realm=\"", realm, b"\""].concat());
    Flow::Finish(status)
}

fn unreadable(r: &Request, path: &[u8], error: &io::Error) -> Flow {
    let (level, status) = match error.kind() {
        io::ErrorKind::NotFound => (Level::Error, 403),
        _ => (Level::Crit, 500),
    };
    let path = String::from_utf8_lossy(path);
    r.log_at(level, format_args!("open() \"{path}\" failed ({})", os_error(error)));
    Flow::Finish(status)
}

fn read(path: &[u8]) -> io::Result<Vec<u8>> {
    let fd = file::open_read(path)?;
    let size = usize::try_from(file::fstat(&fd)?.size).unwrap_or(0);
    // Read up to the end, even when the file has grown meanwhile.
    let mut content = vec![0; size + 1];
    let mut len = 0;
    loop {
        len += file::pread_full(&fd, content.get_mut(len..).unwrap_or_default(), len as u64)?;
        if len < content.len() {
            content.truncate(len);
            return Ok(content);
        }
        content.resize(len * 2, 0);
    }
}

/// The password of `user` among lines `user:password[:comment]`.
fn find<'a>(content: &'a [u8], user: &[u8]) -> Option<&'a [u8]> {
    content.split(|byte| *byte == b'\n').find_map(|line| {
        // A line that begins with `#` or a carriage return is a comment.
        if line.starts_with(b"#") || line.starts_with(b"\r") {
            return None;
        }
        let password = line.strip_prefix(user)?.strip_prefix(b":")?;
        password.split(|byte| matches!(byte, b'\r' | b':')).next()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_found_by_user() {
        let check = |content: &str, user: &str, expect: Option<&str>| {
            assert_eq!(find(content.as_bytes(), user.as_bytes()), expect.map(str::as_bytes), "{content}");
        };
        check("a:1\nb:2\n", "b", Some("2"));
        check("a:1\nb:2", "b", Some("2"));
        check("ab:1\na:2\n", "a", Some("2"));
        check("a:1:comment\n", "a", Some("1"));
        check("a:1\r\nb:2\r\n", "a", Some("1"));
        check("#a:1\na:2\n", "#a", None);
        check("\na:2\n", "a", Some("2"));
        check("a\n", "a", None);
        check("a:\n", "a", Some(""));
        check("", "a", None);
    }
}
