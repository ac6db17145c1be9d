//! The machine's name and its system.

/// The host name in lower case: `$hostname`.
pub fn name() -> String {
    rustix::system::uname().nodename().to_string_lossy().to_ascii_lowercase()
}

/// `Linux 6.1.0`, as nginx logs it when it starts.
pub fn system() -> String {
    let uname = rustix::system::uname();
    format!("{} {}", uname.sysname().to_string_lossy(), uname.release().to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_is_known() {
        let kernel = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        assert_eq!(name(), kernel.trim_end().to_ascii_lowercase());
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        assert_eq!(system(), format!("Linux {}", release.trim_end()));
    }
}
