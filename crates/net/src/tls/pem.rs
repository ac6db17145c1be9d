//! PEM as OpenSSL takes it: blocks between other text, with the fields of older encrypted keys.

use base64::{Engine as _, engine::general_purpose::STANDARD};

/// OpenSSL's error for text that holds no block of the kind looked for.
pub(super) fn no_start_line(expecting: &str) -> String {
    format!("error:0480006C:PEM routines::no start line:Expecting: {expecting}")
}

/// OpenSSL's error for a block that is not base64.
pub(super) const BAD_BASE64: &str = "error:04800064:PEM routines::bad base64 decode";
/// OpenSSL's error for a block that is not a certificate.
pub(super) const BAD_CERTIFICATE: &str = "error:0688010A:asn1 encoding routines::nested asn1 error";

/// What stands between a `BEGIN` and its `END`.
#[derive(Debug, PartialEq, Eq)]
pub struct Block {
    /// `CERTIFICATE`, `PRIVATE KEY`, …
    pub label: String,
    /// `Proc-Type`, `DEK-Info`: with their values.
    pub fields: Vec<(String, String)>,
    /// `None` when it is not base64.
    pub der: Option<Vec<u8>>,
}

impl Block {
    /// The value of a field.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| &**value)
    }

    /// The certificate in it; a trusted one has something behind it.
    pub fn certificate(&self) -> Option<&[u8]> {
        let der = self.der.as_deref()?;
        match &*self.label {
            "TRUSTED CERTIFICATE" => super::asn1::first(der),
            _ => Some(der),
        }
    }
}

/// Whether a block of that name holds a certificate.
pub fn is_certificate(label: &str) -> bool {
    matches!(label, "CERTIFICATE" | "X509 CERTIFICATE" | "TRUSTED CERTIFICATE")
}

/// The blocks in a text, in order. What is not closed is left out.
pub fn blocks(text: &[u8]) -> Vec<Block> {
    let text = String::from_utf8_lossy(text);
    let mut blocks = Vec::new();
    let mut open: Option<(Block, String)> = None;
    for line in text.lines().map(str::trim_end) {
        if let Some(label) = line.strip_prefix("-----BEGIN ").and_then(|rest| rest.strip_suffix("-----")) {
            open = Some((Block { label: label.into(), fields: Vec::new(), der: None }, String::new()));
        } else if line.starts_with("-----END ") {
            if let Some((mut block, body)) = open.take() {
                block.der = STANDARD.decode(&body).ok();
                blocks.push(block);
            }
        } else if let Some((block, body)) = &mut open {
            match line.split_once(':') {
                Some((name, value)) => block.fields.push((name.trim().into(), value.trim().into())),
                None => body.push_str(line.trim()),
            }
        }
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_found_between_other_text() {
        let text = b"subject=x\n-----BEGIN CERTIFICATE-----\r\nAAEC\r\nAw==\r\n-----END CERTIFICATE-----\n\
            -----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nBA==\n\
            -----END RSA PRIVATE KEY-----\n-----BEGIN LOST-----\nAAAA\n";
        let blocks = blocks(text);
        assert_eq!(blocks.len(), 2);
        assert_eq!(blocks[0].der.as_deref(), Some(&[0, 1, 2, 3][..]));
        assert_eq!(blocks[1].field("DEK-Info"), Some("AES-128-CBC,00"));
        assert_eq!(blocks[1].der.as_deref(), Some(&[4][..]));
    }
}
