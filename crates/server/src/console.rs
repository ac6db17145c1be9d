//! A worker for one script: no master, no sockets, no pid file; it ends when the script does.

use crate::{
    configuration, panics,
    report::Report,
    resources::Direct,
    run::Program,
    serving::Shared,
    worker::{self, Command, Events, Job, News},
};
use moonrest_core::{conf::Loader, env::Resources, log::Level};
use moonrest_http::worker::Process;
use moonrest_sys::{listen::ListenSpec, process};
use std::{
    fs::File,
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
};

/// Serves the configuration `text` until its worker leaves of its own accord; gives the exit status.
pub fn run(program: &Program, text: Vec<u8>) -> i32 {
    let _ = process::ensure_standard_fds();
    let report = Report::open(None, Level::Notice);
    let resources = Typed { text, file: program.options.conf_file.clone(), direct: Direct::serving() };
    let outcome = configuration::load(program, &resources);
    report.complain(outcome.as_nginx());
    let Some(loaded) = outcome.loaded else { return 1 };
    panics::install();
    panics::log_to(loaded.log.clone());
    // Nobody had shared zones before.
    loaded.zones.commit();
    let (sender, receiver) = mpsc::channel();
    let started = io::pipe().and_then(|(wake, writer)| {
        let shared =
            Shared { settings: loaded.settings, http: loaded.http, log: loaded.log, logs: loaded.logs };
        let job = Job {
            generation: 0,
            id: 0,
            shared: Arc::new(shared),
            process: Arc::<Process>::default(),
            shares: Vec::new(),
            events: Events { sender, wake: Arc::new(writer) },
        };
        worker::start(job).map(|worker| (worker, wake))
    });
    let (worker, _wake) = match started {
        Ok(started) => started,
        Err(error) => {
            let error = moonrest_core::env::os_error(&error);
            report.write(Level::Emerg, format_args!("a worker could not be started ({error})"));
            return 1;
        }
    };
    worker.command.send_replace(Command::Serve);
    for (_, _, news) in receiver {
        match news {
            News::Ready { .. } | News::Leaves => {}
            News::Failed(text) => {
                report.write(Level::Emerg, format_args!("{text}"));
                return 1;
            }
            News::Ended { panicked } => return i32::from(panicked),
        }
    }
    1
}

/// A configuration that stands in no file.
struct Typed {
    text: Vec<u8>,
    file: PathBuf,
    direct: Direct,
}

impl Loader for Typed {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        if path == self.file { Ok(self.text.clone()) } else { self.direct.read(path) }
    }

    fn glob(&self, pattern: &Path) -> io::Result<Vec<PathBuf>> {
        self.direct.glob(pattern)
    }
}

impl Resources for Typed {
    fn open_log(&self, path: &Path) -> io::Result<File> {
        self.direct.open_log(path)
    }

    fn listen(&self, spec: &ListenSpec, shard: usize) -> io::Result<OwnedFd> {
        self.direct.listen(spec, shard)
    }

    fn testing(&self) -> bool {
        false
    }

    /// A script has no use for directories of temporary files.
    fn make_dir(&self, _: &Path, _: Option<(u32, u32)>) -> io::Result<()> {
        Ok(())
    }
}
