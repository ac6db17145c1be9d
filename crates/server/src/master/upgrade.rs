//! A new program takes over from a running one: USR2.
//! <https://nginx.org/en/docs/control.html#upgrade>

use super::Master;
use moonrest_core::{env::os_error, log::Level};
use moonrest_sys::{environment, exec, inherit, path, pidfile};
use std::os::fd::AsFd as _;

impl Master<'_> {
    pub(super) fn change_binary(&mut self) {
        self.report.write(Level::Notice, format_args!("changing binary"));
        let sockets = self.state.groups.iter().flat_map(|group| &group.shards);
        let sockets: Vec<_> = sockets.map(|shard| shard.as_fd()).collect();
        let variables = self.state.settings.environment(&environment::all());
        let mut env: Vec<Vec<u8>> =
            variables.into_iter().map(|(name, value)| [name, b"=".to_vec(), value].concat()).collect();
        env.push(inherit::variable(sockets.iter().copied()).into_bytes());
        let pid_file = path::to_bytes(&self.state.pid_file).to_vec();
        if let Err(error) = pidfile::rename_to_oldbin(&pid_file) {
            let name = self.state.pid_file.display();
            self.report.write(
                Level::Alert,
                format_args!(
                    "rename() {name} to {name}.oldbin failed before executing new binary process \"{}\" ({})",
                    self.program_name(),
                    os_error(&error)
                ),
            );
            return;
        }
        let argv = &self.program.argv;
        let program = argv.first().map(Vec::as_slice).unwrap_or_default();
        match exec::spawn_binary(program, argv, &env, &sockets) {
            Ok(pid) => {
                self.new_binary = Some(pid);
                self.report.write(Level::Notice, format_args!("start new binary process {pid}"));
            }
            Err(error) => {
                self.report.write(
                    Level::Alert,
                    format_args!(
                        "execve() failed while executing new binary process \"{}\" ({})",
                        self.program_name(),
                        os_error(&error)
                    ),
                );
                self.restore_pid_file();
            }
        }
    }

    pub(super) fn program_name(&self) -> String {
        self.program.argv.first().map(|name| String::from_utf8_lossy(name).into_owned()).unwrap_or_default()
    }

    pub(super) fn restore_pid_file(&self) {
        if let Err(error) = pidfile::rename_from_oldbin(path::to_bytes(&self.state.pid_file)) {
            let name = self.state.pid_file.display();
            self.report.write(
                Level::Alert,
                format_args!(
                    "rename() {name}.oldbin back to {name} failed after the new binary process \"{}\" exited ({})",
                    self.program_name(),
                    os_error(&error)
                ),
            );
        }
    }
}
