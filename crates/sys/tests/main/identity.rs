//! Becoming another user. Needs root; otherwise it is checked that nothing happens.
use std::fs;

use moonrest_sys::limits;
use moonrest_sys::user::{self, Identity};

fn nobody(keep_net_raw: bool) -> Identity {
    let user = user::by_name(b"nobody").unwrap().unwrap();
    Identity { name: user.name, uid: user.uid, gid: user.gid, keep_net_raw }
}

fn status(field: &str) -> String {
    let text = fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim_start_matches(':').split_ascii_whitespace().collect::<Vec<_>>().join(" ")
}

pub(crate) fn root_becomes_somebody() {
    let identity = nobody(false);
    let before = user::effective_uid();
    let warning = user::become_identity(&identity).unwrap();
    if before != 0 {
        assert!(warning.is_none());
        assert_eq!(user::effective_uid(), before);
        return;
    }
    let uid = identity.uid.to_string();
    assert_eq!(status("Uid"), [uid.as_str(); 4].join(" "));
    let gid = identity.gid.to_string();
    assert_eq!(status("Gid"), [gid.as_str(); 4].join(" "));
    assert!(!status("Groups").split(' ').any(|group| group == "0"), "not in root's groups");
    assert_eq!(user::effective_gid(), identity.gid);
    assert!(status("CapEff").bytes().all(|digit| digit == b'0'));
    assert!(fs::File::open("/proc/1/mem").is_err());
    // The way back is closed: nothing happens.
    let root = Identity { name: b"root".to_vec(), uid: 0, gid: 0, keep_net_raw: false };
    assert!(user::become_identity(&root).unwrap().is_none());
    assert_eq!(user::effective_uid(), identity.uid);
    limits::set_dumpable(true).unwrap();
}

pub(crate) fn a_capability_can_be_kept() {
    if user::effective_uid() != 0 {
        return;
    }
    user::become_identity(&nobody(true)).unwrap();
    assert_eq!(u64::from_str_radix(&status("CapEff"), 16).unwrap(), 1 << 13, "CAP_NET_RAW alone");
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    moonrest_sys::socket::set_transparent(&socket, false).unwrap();
}

pub(crate) fn privileges_can_be_renounced() {
    limits::set_no_new_privileges().unwrap();
    assert_eq!(status("NoNewPrivs"), "1");
}
