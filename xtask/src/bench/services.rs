//! Databases that rows need.
use super::cases::Need;

#[derive(Debug, Default)]
pub(crate) struct Services {
    ports: Vec<(&'static str, u16)>,
}

impl Services {
    pub(crate) fn start(needs: &[Need]) -> Result<Self, String> {
        let _ = needs;
        Ok(Self::default())
    }

    pub(crate) fn ports(&self) -> &[(&'static str, u16)] {
        &self.ports
    }
}
