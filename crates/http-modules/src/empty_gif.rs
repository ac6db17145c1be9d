//! `empty_gif`: a transparent picture of one pixel.
//! <https://nginx.org/en/docs/http/ngx_http_empty_gif_module.html>

use moonrest_http::{compile::BlockId, prelude::*};
use moonrest_proto::http1::Method;

/// Answers with the picture.
pub struct EmptyGif;

impl HttpModule for EmptyGif {
    const NAME: &'static str = "ngx_http_empty_gif_module";
    const DIRECTIVES: &'static [Directive<Self>] =
        &[Directive::loc("empty_gif", Arity::exactly(0), set).within(Contexts::LOCATION)];
    type Main = ();
    type Loc = Loc;

    fn attach(_main: &(), loc: &Arc<Loc>, to: &mut LocationBuilder<'_>) -> ConfResult {
        if loc.block.is_some_and(|block| to.belongs(block)) {
            to.content(Handler);
        }
        Ok(())
    }
}

/// The location that says so; nested ones do not inherit it.
#[derive(Clone, Default)]
pub struct Loc {
    block: Option<BlockId>,
}
inherit!(Loc { block });

fn set(loc: &mut Loc, args: &Args<'_>) -> ConfResult {
    loc.block = Some(args.block);
    Ok(())
}

/// One transparent pixel: header, a palette of black and white of which black is transparent, one coded row.
const GIF: &[u8] = b"GIF89a\x01\0\x01\0\x80\x01\0\0\0\0\xff\xff\xff!\xf9\x04\x01\0\0\x01\0,\0\0\0\0\x01\0\x01\0\0\x02\x02L\x01\0;";
/// 28 Sep 1970 06:00:00 GMT
const MODIFIED: i64 = 23_349_600;

struct Handler;

impl PhaseHandler for Handler {
    fn handle(&self, r: &RequestRef) -> Result<Step, RequestError> {
        if !matches!(r.method.get(), Method::Get | Method::Head) {
            return Step::finish(405);
        }
        r.ignore_body()?;
        r.out_mut().last_modified = Some(MODIFIED);
        r.respond(200, Bytes::from_static(b"image/gif"), Bytes::from_static(GIF))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_picture_has_its_length() {
        assert_eq!(GIF.len(), 43);
        assert_eq!(&moonrest_proto::date::http(MODIFIED), b"Mon, 28 Sep 1970 06:00:00 GMT");
    }
}
