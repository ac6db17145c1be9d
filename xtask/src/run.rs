//! Runs other programs.
use std::path::PathBuf;
use std::process::{Command, Stdio};

pub(crate) use moonrest_testkit::server::{default_binary, workspace};

/// The cargo that runs this program.
pub(crate) fn cargo_command() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace());
    command
}

/// Runs cargo; an error if it fails.
pub(crate) fn cargo(args: &[&str]) -> Result<(), String> {
    eprintln!("$ cargo {}", args.join(" "));
    let status = cargo_command().args(args).status().map_err(|error| format!("cargo: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("cargo {} failed", args.join(" "))) }
}

/// Builds the release binary, unless `MOONREST_BINARY` names another one; gives its path.
pub(crate) fn release_binary() -> Result<PathBuf, String> {
    if std::env::var_os("MOONREST_BINARY").is_none() {
        cargo(&["build", "--release", "--package", "moonrest-cli"])?;
    }
    Ok(default_binary())
}

/// What a program writes to its standard output; an error if it fails.
pub(crate) fn output(command: &mut Command) -> Result<String, String> {
    let shown = format!("{}", command.get_program().to_string_lossy());
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{shown}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{shown}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
