//! USR1: logs are opened anew.

use super::instance::{Instance, open_files};
use rustix::process::Signal;
use std::fs;

const OK: &str = "location / { return 200 ok!; }";

#[test]
fn lines_go_to_the_new_files_and_the_old_ones_are_let_go() {
    for conf in ["", "master_process off;"] {
        let server = Instance::start(conf, OK);
        server.get("/before");
        server.wait_until("a line", || access(&server, "logs/access.log").contains("/before"));
        for name in ["access.log", "error.log"] {
            fs::rename(server.path(&format!("logs/{name}")), server.path(&format!("logs/old-{name}")))
                .unwrap();
        }
        server.signal(Signal::USR1);
        server.wait_until("new files", || {
            server.path("logs/access.log").exists() && server.path("logs/error.log").exists()
        });
        server.wait_until("a line", || {
            server.get("/after");
            access(&server, "logs/access.log").contains("/after")
        });
        let processes = std::iter::once(server.pid()).chain(super::instance::children(server.pid()));
        for pid in processes {
            server.wait_until("the old files let go", || {
                !open_files(pid).iter().any(|path| path.to_string_lossy().contains("/old-"))
            });
        }
        assert!(access(&server, "logs/old-error.log").contains("reopening logs"));
    }
}

fn access(server: &Instance, name: &str) -> String {
    fs::read_to_string(server.path(name)).unwrap_or_default()
}
