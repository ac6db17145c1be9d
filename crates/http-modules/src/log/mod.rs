//! Access logs: `log_format`, `access_log`, `open_log_file_cache`.
//! <https://nginx.org/en/docs/http/ngx_http_log_module.html>

mod cache;
mod file;
mod format;
mod named;

use cache::Cache;
use file::{BufferSettings, Complaint, Complaints, File};
use format::Format;
use moonrest_core::{
    Args as CoreArgs, Env,
    conf::value,
    env::os_error,
    syslog::{self, Syslog},
};
use moonrest_http::{compile::Compiler, phase::LocalBoxFuture, prelude::*};
use std::{cell::RefCell, sync::OnceLock};

type D = Directive<AccessLog>;

/// `ngx_http_log_module`.
pub struct AccessLog;

impl HttpModule for AccessLog {
    const NAME: &'static str = "ngx_http_log_module";
    const DIRECTIVES: &'static [D] = &[
        D::main("log_format", Arity::at_least(2), log_format),
        D::new(
            "access_log",
            Contexts::HSL.or(Contexts::IF).or(Contexts::LIMIT_EXCEPT),
            Arity::at_least(1),
            Set::Both(access_log),
        ),
        D::loc("open_log_file_cache", Arity::between(1, 4), |loc, args| {
            set_once(&mut loc.cache, cache::parse(args)?)
        }),
        D::flag("log_escape_non_ascii", |loc| &mut loc.escape_non_ascii),
    ];
    type Main = Main;
    type Loc = Loc;

    fn finish(main: &mut Main, cx: &Compiler<'_>) -> ConfResult {
        main.combined(|name| cx.vars.reference(name, None)).map(drop)
    }

    fn attach(main: &Main, loc: &Arc<Loc>, to: &mut LocationBuilder<'_>) -> ConfResult {
        if loc.off {
            return Ok(());
        }
        let targets = if loc.targets.is_empty() {
            vec![main.default_target(to.compiler.env)?]
        } else {
            loc.targets.clone()
        };
        to.log(Handler {
            targets: targets.into(),
            cache: loc.cache.clone().flatten(),
            escape_non_ascii: loc.escape_non_ascii.unwrap_or(true),
        });
        Ok(())
    }

    fn stop_worker(
        _main: &Arc<Main>,
        _worker: &std::rc::Rc<Worker>,
    ) -> Option<moonrest_http::phase::LocalBoxFuture<()>> {
        file::flush_worker();
        None
    }
}

/// Formats and files of the whole `http` block.
#[derive(Default)]
pub struct Main {
    formats: Vec<(Box<[u8]>, Arc<Format>)>,
    /// The predefined format, once somebody asked for it.
    combined: Option<Arc<Format>>,
    files: Vec<Arc<File>>,
    /// What is written where nothing is said.
    default: OnceLock<Arc<Target>>,
}

/// What one block says.
#[derive(Clone, Default)]
pub struct Loc {
    targets: Vec<Arc<Target>>,
    off: bool,
    /// `Some(None)` is `off`.
    cache: Option<Option<Arc<Cache>>>,
    escape_non_ascii: Option<bool>,
}

impl Inherit for Loc {
    fn inherit(&mut self, outer: &Self) {
        if self.targets.is_empty() && !self.off {
            self.targets.clone_from(&outer.targets);
            self.off = outer.off;
        }
        if self.cache.is_none() {
            self.cache.clone_from(&outer.cache);
        }
        self.escape_non_ascii = self.escape_non_ascii.or(outer.escape_non_ascii);
    }
}

/// One `access_log`.
struct Target {
    place: Place,
    format: Arc<Format>,
    /// `if=`
    condition: Option<Template>,
    complaints: Complaints,
}

enum Place {
    File(Arc<File>),
    /// A name with variables, the prefix in front.
    Named(Template),
    Syslog(Arc<Syslog>),
}

impl Main {
    fn combined(&mut self, reference: impl FnMut(&str) -> VarId) -> ConfResult<Arc<Format>> {
        if let Some(known) = &self.combined {
            return Ok(known.clone());
        }
        let made = Arc::new(Format::combined(reference)?);
        self.combined = Some(made.clone());
        Ok(made)
    }

    /// The format called so; nginx: case does not matter here.
    fn format(&mut self, name: &[u8], reference: impl FnMut(&str) -> VarId) -> ConfResult<Arc<Format>> {
        if name.eq_ignore_ascii_case(format::COMBINED) {
            return self.combined(reference);
        }
        let known = self.formats.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        known.map(|(_, format)| format.clone()).ok_or_else(|| {
            Fault::message(format!("unknown log format \"{}\"", String::from_utf8_lossy(name)))
        })
    }

    /// The file that an `access_log` names, opened once however often it is named.
    fn file(&mut self, args: &Args<'_>) -> ConfResult<Arc<File>> {
        let file = open(args.env, args.bytes(0)?)?;
        if let Some(known) = self.files.iter().find(|known| Arc::ptr_eq(&known.file, &file.file)) {
            return Ok(known.clone());
        }
        let file = Arc::new(file);
        self.files.push(file.clone());
        Ok(file)
    }

    /// `logs/access.log` in the combined format.
    fn default_target(&self, env: &Env<'_>) -> ConfResult<Arc<Target>> {
        if let Some(known) = self.default.get() {
            return Ok(known.clone());
        }
        let file = open(env, b"logs/access.log")?;
        let known = self.files.iter().find(|known| Arc::ptr_eq(&known.file, &file.file)).cloned();
        let format = self.combined.clone().ok_or_else(|| Fault::message("no combined format"))?;
        let target = Arc::new(Target {
            place: Place::File(known.unwrap_or_else(|| Arc::new(file))),
            format,
            condition: None,
            complaints: Complaints::default(),
        });
        Ok(self.default.get_or_init(|| target).clone())
    }
}

fn open(env: &Env<'_>, path: &[u8]) -> ConfResult<File> {
    let path = env.full_path(path)?;
    let file = env.logs.open(&path, |path| env.resources.open_log(path)).map_err(|error| {
        Fault::message(format!("open() \"{}\" failed ({})", path.display(), os_error(&error)))
    })?;
    Ok(File::new(file))
}

/// Numbers the variables that an argument names.
fn references<'a>(args: &'a CoreArgs<'_, Request>, n: usize) -> impl FnMut(&str) -> VarId + 'a {
    let span = args.words().get(n).map(|word| word.span);
    move |name| args.vars.reference(name, span)
}

fn log_format(main: &mut Main, args: &Args<'_>) -> ConfResult {
    let name = args.bytes(0)?;
    if name == format::COMBINED || main.formats.iter().any(|(known, _)| **known == *name) {
        return Err(Fault::message(format!("duplicate \"log_format\" name \"{}\"", args.lossy(0))));
    }
    let texts = args.words().iter().skip(1).map(|word| &*word.text);
    let format = Format::compile(texts, references(args, 1))?;
    main.formats.push((name.into(), Arc::new(format)));
    Ok(())
}

fn access_log(main: &mut Main, loc: &mut Loc, args: &Args<'_>) -> ConfResult {
    let path = args.bytes(0)?;
    if path == b"off" {
        loc.off = true;
        return if args.len() == 1 { Ok(()) } else { Err(args.invalid_parameter(1)) };
    }
    let place = if path.starts_with(b"syslog:") {
        Place::Syslog(syslog::parse(path)?)
    } else if path.contains(&b'$') {
        let full = args.path(0)?.into_os_string().into_encoded_bytes();
        Place::Named(Template::parse(&full, references(args, 0))?)
    } else {
        Place::File(main.file(args)?)
    };
    let format = match args.words().get(1) {
        Some(name) => main.format(&name.text, references(args, 1))?,
        None => main.combined(references(args, 0))?,
    };
    let options = Options::parse(args)?;
    if let Some(settings) = options.buffer {
        buffer(&place, settings, args)?;
    }
    let complaints = Complaints::default();
    loc.targets.push(Arc::new(Target { place, format, condition: options.condition, complaints }));
    Ok(())
}

/// What follows path and format.
struct Options {
    buffer: Option<BufferSettings>,
    condition: Option<Template>,
}

/// Bytes gathered before they are compressed, unless `buffer=` says otherwise.
const GZIP_BUFFER: u64 = 64 * 1024;

impl Options {
    fn parse(args: &Args<'_>) -> ConfResult<Self> {
        let (mut size, mut flush, mut gzip, mut condition) = (0, None, None, None);
        for (n, word) in args.words().iter().enumerate().skip(2) {
            let text = &*word.text;
            let invalid = |what: &str, value: &[u8]| {
                Fault::message(format!("invalid {what} \"{}\"", String::from_utf8_lossy(value)))
            };
            if let Some(text) = text.strip_prefix(b"buffer=") {
                let parsed = value::parse_size(text).filter(|size| *size > 0);
                size = parsed.ok_or_else(|| invalid("buffer size", text))?;
            } else if let Some(text) = text.strip_prefix(b"flush=") {
                let parsed = value::parse_msec(text).filter(|ms| *ms > 0);
                flush = Some(parsed.ok_or_else(|| invalid("flush time", text))?);
            } else if text == b"gzip" {
                gzip = Some(1);
            } else if let Some(text) = text.strip_prefix(b"gzip=") {
                let parsed = value::parse_uint(text).filter(|level| (1..=9).contains(level));
                gzip = Some(parsed.ok_or_else(|| invalid("compression level", text))?);
            } else if let Some(text) = text.strip_prefix(b"if=") {
                condition = Some(Template::parse(text, references(args, n))?);
            } else {
                return Err(args.invalid_parameter(n));
            }
            if gzip.is_some() && size == 0 {
                size = GZIP_BUFFER;
            }
        }
        if size == 0 {
            return match flush {
                Some(_) => {
                    Err(Fault::message(format!("no buffer is defined for access_log \"{}\"", args.lossy(0))))
                }
                None => Ok(Self { buffer: None, condition }),
            };
        }
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let gzip = gzip.and_then(|level| u32::try_from(level).ok());
        Ok(Self { buffer: Some(BufferSettings { size, flush, gzip }), condition })
    }
}

fn buffer(place: &Place, settings: BufferSettings, args: &Args<'_>) -> ConfResult {
    match place {
        Place::Named(_) => Err(Fault::message("buffered logs cannot have variables in name")),
        Place::Syslog(_) => Err(Fault::message("logs to syslog cannot be buffered")),
        Place::File(file) if file.buffer(settings, &args.compiler.main_log) => Ok(()),
        Place::File(_) => Err(Fault::message(format!(
            "access_log \"{}\" already defined with conflicting parameters",
            args.lossy(0)
        ))),
    }
}

/// Writes the lines of the requests that end in one location.
struct Handler {
    targets: Box<[Arc<Target>]>,
    cache: Option<Arc<Cache>>,
    escape_non_ascii: bool,
}

thread_local! {
    /// The line being made; its memory is used again.
    static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A line buffer that grew beyond this is given back to the allocator.
const KEPT_LINE: usize = 16 * 1024;

impl LogHandler for Handler {
    fn log(&self, r: &RequestRef) -> Option<LocalBoxFuture<()>> {
        // Taken, not borrowed: a variable's getter is free to do anything.
        let mut line = LINE.take();
        for target in &self.targets {
            line.clear();
            target.log(r, self, &mut line);
        }
        if line.capacity() <= KEPT_LINE {
            LINE.set(line);
        }
        None
    }
}

impl Target {
    fn log(&self, r: &RequestRef, handler: &Handler, line: &mut Vec<u8>) {
        if let Some(condition) = &self.condition {
            condition.append(&**r, line);
            if matches!(line.as_slice(), b"" | b"0") {
                return;
            }
            line.clear();
        }
        if self.complaints.disk_full() {
            return;
        }
        self.format.append(r, handler.escape_non_ascii, line);
        let complain = |complaint: Complaint<'_>| moonrest_http::alert!(r, "{}", complaint.message());
        match &self.place {
            Place::Syslog(syslog) => self.send(r, syslog, line),
            Place::File(file) => {
                line.push(b'\n');
                file.write(line, &self.complaints, complain);
            }
            Place::Named(name) => {
                line.push(b'\n');
                let Some((name, result)) = named::write(r, name, handler.cache.as_deref(), line) else {
                    return;
                };
                self.complaints.judge(&name, line.len(), result, complain);
            }
        }
    }

    fn send(&self, r: &Request, syslog: &Syslog, line: &[u8]) {
        if let Err(failure) = syslog.send_access(line) {
            r.worker.log.write(Level::Alert, None, format_args!("{failure}"));
            moonrest_http::warn!(r, "send() to syslog failed");
        }
    }
}
