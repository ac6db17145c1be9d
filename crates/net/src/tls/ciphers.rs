//! What `ssl_ciphers`, `ssl_ecdh_curve` and `ssl_conf_command` name, mapped to what there is.

use super::names;
use rustls::{
    CipherSuite, NamedGroup, ProtocolVersion, SupportedCipherSuite,
    crypto::{SupportedKxGroup, aws_lc_rs},
};

/// A choice made from a list, and the words in it that chose nothing.
#[derive(Debug)]
pub struct Chosen<T> {
    pub list: Vec<T>,
    /// Known to OpenSSL, but not to be had here.
    pub unsupported: Vec<String>,
    /// Known to nobody.
    pub unknown: Vec<String>,
}

impl<T> Chosen<T> {
    fn new() -> Self {
        Self { list: Vec::new(), unsupported: Vec::new(), unknown: Vec::new() }
    }
}

/// A cipher suite of TLS 1.2 with what OpenSSL's words say about it.
struct Row {
    suite: CipherSuite,
    words: &'static [&'static str],
}

/// In OpenSSL's order of preference.
const ROWS: &[Row] = &[
    Row {
        suite: CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        words: &["aECDSA", "ECDSA", "AES", "AES256", "AESGCM", "SHA384"],
    },
    Row {
        suite: CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        words: &["aRSA", "AES", "AES256", "AESGCM", "SHA384"],
    },
    Row {
        suite: CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        words: &["aECDSA", "ECDSA", "CHACHA20"],
    },
    Row { suite: CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256, words: &["aRSA", "CHACHA20"] },
    Row {
        suite: CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        words: &["aECDSA", "ECDSA", "AES", "AES128", "AESGCM", "SHA256"],
    },
    Row {
        suite: CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        words: &["aRSA", "AES", "AES128", "AESGCM", "SHA256"],
    },
];

/// Words that all of them answer to.
const COMMON: &[&str] = &["ALL", "DEFAULT", "HIGH", "ECDHE", "EECDH", "kECDHE", "kEECDH", "TLSv1.2", "AEAD"];

/// Words of OpenSSL's that none of them answers to.
const FOREIGN: &[&str] = &[
    "COMPLEMENTOFALL",
    "COMPLEMENTOFDEFAULT",
    "MEDIUM",
    "LOW",
    "EXP",
    "EXPORT",
    "EXPORT40",
    "EXPORT56",
    "eNULL",
    "NULL",
    "aNULL",
    "kRSA",
    "kDHr",
    "kDHd",
    "kDH",
    "kDHE",
    "kEDH",
    "DH",
    "DHE",
    "EDH",
    "ADH",
    "kECDHr",
    "kECDHe",
    "kECDH",
    "ECDH",
    "AECDH",
    "aDSS",
    "DSS",
    "aDH",
    "aECDH",
    "TLSv1.0",
    "TLSv1",
    "SSLv3",
    "SSLv2",
    "AESCCM",
    "AESCCM8",
    "ARIA",
    "ARIA128",
    "ARIA256",
    "ARIAGCM",
    "CAMELLIA",
    "CAMELLIA128",
    "CAMELLIA256",
    "3DES",
    "DES",
    "RC4",
    "RC2",
    "IDEA",
    "SEED",
    "MD5",
    "SHA1",
    "SHA",
    "aGOST",
    "aGOST01",
    "kGOST",
    "GOST94",
    "GOST89MAC",
    "PSK",
    "kPSK",
    "aPSK",
    "kECDHEPSK",
    "kDHEPSK",
    "kRSAPSK",
    "SRP",
    "kSRP",
    "aSRP",
    "KRB5",
    "FIPS",
    "RSA",
    "CBC",
    "SUITEB128",
    "SUITEB192",
    "SUITEB128ONLY",
    "SUITEB128C2",
    "kDHd",
    "AES128-SHA",
    "FZA",
    "aFZA",
    "kFZA",
    "eFZA",
    "DSA",
    "CHACHA",
];

fn answers(row: &Row, word: &str) -> bool {
    // nginx's default says RSA for what authenticates as well as for what exchanges keys.
    names::cipher(row.suite.into()) == Some(word)
        || row.words.contains(&word)
        || COMMON.contains(&word)
        || (word == "RSA" && row.words.contains(&"aRSA"))
}

fn is_known(word: &str) -> bool {
    COMMON.contains(&word)
        || FOREIGN.contains(&word)
        || ROWS.iter().any(|row| answers(row, word))
        || names::is_cipher(word)
}

/// The suites of TLS 1.2 that an OpenSSL cipher list chooses, in its order.
pub fn tls12(list: &str) -> Chosen<SupportedCipherSuite> {
    let mut chosen = Chosen::new();
    let mut order: Vec<&Row> = Vec::new();
    let mut killed: Vec<CipherSuite> = Vec::new();
    for item in list.split([':', ',', ' ', ';']).filter(|item| !item.is_empty()) {
        if item.starts_with('@') {
            if item == "@STRENGTH" {
                order.sort_by_key(|row| {
                    ROWS.iter().position(|known| known.suite == row.suite && !row.words.contains(&"AES128"))
                });
            }
            continue;
        }
        let (sign, words) = match item.as_bytes().first() {
            Some(sign @ (b'!' | b'-' | b'+')) => (*sign, item.get(1..).unwrap_or_default()),
            _ => (b' ', item),
        };
        let words: Vec<&str> = words.split('+').collect();
        if let Some(odd) = words.iter().find(|word| !is_known(word)) {
            chosen.unknown.push((*odd).to_owned());
            continue;
        }
        let fits = |row: &&Row| words.iter().all(|word| answers(row, word));
        match sign {
            b'!' => killed.extend(ROWS.iter().filter(fits).map(|row| row.suite)),
            b'-' => order.retain(|row| !fits(row)),
            b'+' => order.sort_by_key(|row| fits(row)),
            _ => {
                let found: Vec<&Row> = ROWS.iter().filter(fits).collect();
                if found.is_empty() {
                    chosen.unsupported.push(words.join("+"));
                }
                for row in found {
                    if !order.iter().any(|known| known.suite == row.suite) {
                        order.push(row);
                    }
                }
            }
        }
        order.retain(|row| !killed.contains(&row.suite));
    }
    chosen.list = order.iter().filter_map(|row| suite(row.suite)).collect();
    chosen
}

fn suite(wanted: CipherSuite) -> Option<SupportedCipherSuite> {
    aws_lc_rs::ALL_CIPHER_SUITES.iter().find(|suite| suite.suite() == wanted).copied()
}

/// The suites of TLS 1.3 that a list names, as `Ciphersuites` of `ssl_conf_command` has them.
pub fn tls13(list: &str) -> Chosen<SupportedCipherSuite> {
    let mut chosen = Chosen::new();
    for name in list.split(':').filter(|name| !name.is_empty()) {
        let known =
            tls13_default().into_iter().find(|suite| names::cipher(suite.suite().into()) == Some(name));
        match known {
            Some(suite) => chosen.list.push(suite),
            None if names::is_cipher(name) => chosen.unsupported.push(name.to_owned()),
            None => chosen.unknown.push(name.to_owned()),
        }
    }
    chosen
}

/// All suites of TLS 1.3, in OpenSSL's order.
pub fn tls13_default() -> Vec<SupportedCipherSuite> {
    let order = [
        CipherSuite::TLS13_AES_256_GCM_SHA384,
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
        CipherSuite::TLS13_AES_128_GCM_SHA256,
    ];
    order.into_iter().filter_map(suite).collect()
}

/// Whether a suite is one of that version.
pub fn is_of(suite: &SupportedCipherSuite, version: ProtocolVersion) -> bool {
    suite.version().version == version
}

/// The groups that a list names, in its order; `auto` for what is best.
pub fn groups(list: &str) -> Chosen<&'static dyn SupportedKxGroup> {
    let mut chosen = Chosen::new();
    if list == "auto" {
        chosen.list = aws_lc_rs::default_provider().kx_groups;
        return chosen;
    }
    for item in list.split([':', '/']).filter(|item| !item.is_empty()) {
        // OpenSSL 3.5: a leading question mark allows for unknown ones, an asterisk marks a key share.
        let name = item.trim_start_matches(['?', '*', '-']);
        let Some(number) = names::group_number(name) else {
            if !item.starts_with('?') && !item.contains("DEFAULT") {
                chosen.unknown.push(name.to_owned());
            }
            continue;
        };
        let wanted = NamedGroup::from(number);
        match aws_lc_rs::ALL_KX_GROUPS.iter().find(|group| group.name() == wanted) {
            Some(group) => chosen.list.push(*group),
            None => chosen.unsupported.push(name.to_owned()),
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(list: &str, expect: &[&str]) {
        let chosen = tls12(list);
        let found: Vec<_> =
            chosen.list.iter().filter_map(|suite| names::cipher(suite.suite().into())).collect();
        assert_eq!(found, expect, "{list}");
    }

    #[test]
    fn lists_choose_as_they_do_in_openssl() {
        check("ECDHE-RSA-AES128-GCM-SHA256", &["ECDHE-RSA-AES128-GCM-SHA256"]);
        check("EECDH+AESGCM:!aECDSA", &["ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-RSA-AES128-GCM-SHA256"]);
        check("CHACHA20:-ECDSA", &["ECDHE-RSA-CHACHA20-POLY1305"]);
        check("AES128-SHA:!aNULL:!MD5", &[]);
        check(
            "AES128:AES256:+AES128:!aRSA",
            &["ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-AES128-GCM-SHA256"],
        );
        assert_eq!(tls12("HIGH:!aNULL:!MD5").list.len(), 6);
        assert_eq!(tls12("HIGH:!aNULL:!MD5").unsupported, Vec::<String>::new());
        assert_eq!(tls12("AES128-SHA:ECDHE").unsupported, ["AES128-SHA"]);
        assert_eq!(tls12("nonsense").unknown, ["nonsense"]);
    }

    #[test]
    fn groups_have_all_of_their_names() {
        let names = |list| groups(list).list.iter().map(|group| u16::from(group.name())).collect::<Vec<_>>();
        assert_eq!(names("prime256v1:X25519:secp384r1"), [0x17, 0x1d, 0x18]);
        assert_eq!(names("X25519MLKEM768:P-256"), [0x11ec, 0x17]);
        assert_eq!(names("auto").first(), Some(&0x11ec));
        assert_eq!(groups("secp521r1").unsupported, ["secp521r1"]);
        assert_eq!(groups("nothing").unknown, ["nothing"]);
    }
}
