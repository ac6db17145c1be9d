//! User instructions per request, counted under valgrind: the same on a busy machine as on an idle one.
use std::path::Path;

use crate::bench::{Case, builder, conf};

/// Requests in the shorter of the two runs.
const REQUESTS: u32 = 2000;

/// Runs a server on N and on 2N requests of one keep-alive connection; start and stop cancel out in the difference.
pub(crate) fn per_request(case: &Case, binary: &Path) -> Result<f64, String> {
    let short = total(case, binary, REQUESTS)?;
    let long = total(case, binary, 2 * REQUESTS)?;
    Ok((long - short) / f64::from(REQUESTS))
}

fn total(case: &Case, binary: &Path, requests: u32) -> Result<f64, String> {
    let arguments = ["--tool=callgrind", "--callgrind-out-file=callgrind.out", &binary.to_string_lossy()];
    let mut server = builder(case).binary("valgrind").args_before(&arguments).in_root().start(&conf(case));
    let request = format!("GET {} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", case.path);
    let mut client = server.connect();
    for _ in 0..requests {
        client.send(&request);
        let response = client.response();
        if response.status != Some(200) {
            return Err(format!("{}: {:?} instead of 200", case.name, response.status));
        }
    }
    client.close();
    server.quit();
    let path = server.root().join("callgrind.out");
    let profile = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    sum(&profile).ok_or_else(|| "callgrind wrote no totals".to_owned())
}

/// The number in `totals: 12345`.
fn sum(profile: &str) -> Option<f64> {
    let line = profile.lines().rev().find_map(|line| line.strip_prefix("totals: "))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_found() {
        assert_eq!(sum("events: Ir\nfn=x\n1 2\n\ntotals: 1234\n"), Some(1234.0));
        assert_eq!(sum("events: Ir\n"), None);
    }
}
