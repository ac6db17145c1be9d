//! The environment as a whole.
use moonrest_sys::{environment, title};

fn pair(name: &str, value: &str) -> (Vec<u8>, Vec<u8>) {
    (name.as_bytes().to_vec(), value.as_bytes().to_vec())
}

pub(crate) fn it_is_replaced() {
    title::init().unwrap(); // which has moved it elsewhere
    for bad in [pair("", "x"), pair("A=B", "x"), pair("A", "x\0")] {
        assert!(environment::replace(&[bad]).is_err());
    }
    assert!(environment::get(b"PATH").is_some(), "untouched so far");
    environment::replace(&[pair("TZ", "UTC"), pair("EMPTY", "")]).unwrap();
    let mut all = environment::all();
    all.sort();
    assert_eq!(all, [pair("EMPTY", ""), pair("TZ", "UTC")]);
    let output = std::process::Command::new("/usr/bin/env").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("TZ=UTC\n") && text.contains("EMPTY=\n") && !text.contains("PATH="), "{text}");
}
