//! Time zones.
use moonrest_sys::time;

fn set(zone: &str) {
    // SAFETY: this process has one thread.
    unsafe { std::env::set_var("TZ", zone) };
    time::refresh_timezone();
}

pub(crate) fn local_time_follows_the_variable() {
    // 2024-07-01 12:30:45 UTC and half a year before.
    let (summer, winter) = (1_719_837_045, 1_704_112_245);
    set("UTC0");
    assert_eq!(time::local_offset(summer), 0);
    let local = time::local(summer);
    assert_eq!((local.year, local.month, local.day), (2024, 7, 1));
    assert_eq!((local.hour, local.minute, local.second, local.weekday), (12, 30, 45, 1));
    set("CET-1CEST,M3.5.0,M10.5.0/3");
    assert_eq!(time::local_offset(summer), 7200);
    assert_eq!(time::local_offset(winter), 3600);
    assert_eq!(time::local(summer).hour, 14);
    set("NST3:30");
    assert_eq!(time::local_offset(winter), -12_600);
}
