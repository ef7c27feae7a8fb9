//! `Authorise`, the call that is made most, without tonic's general way: one message in one frame is decoded where it
//! lies, and its answer is encoded into one buffer of its own length.
//!
//! tonic's way costs two boxed futures, two buffers of 8 KiB and a boxed body a call. Whatever is not one whole plain
//! message in one frame (compressed, split, too long, not protobuf, none at all) is handed to tonic as it was read, so
//! that there is one place that knows those errors. Deliberately absent: any other call.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response, header::CONTENT_TYPE};
use http_body::{Body as HttpBody, Frame};
use prost::Message;
use tonic::{Status, body::Body};

use crate::{limits::MESSAGE_BYTES_MAX, proto::AuthoriseRequest};

/// Bytes before a message: whether it is compressed, and its length (gRPC over HTTP/2, "Length-Prefixed-Message").
const PREFIX_BYTES: usize = 5;

const ENCODING: &str = "grpc-encoding";

/// The request of one call until it is whole.
pub(super) struct Reading<B> {
    request: Option<Request<B>>,
    message: Option<Bytes>,
}

/// What was read.
#[allow(
    clippy::large_enum_variant,
    reason = "the large one is the usual one, and a box would be an allocation"
)]
pub(super) enum Read<B: HttpBody> {
    Message(AuthoriseRequest),
    /// Not for here: the whole request as it came.
    Unusual(Request<Resumed<B>>),
    Broken(B::Error),
}

/// A body whose first frames were read already.
pub(super) struct Resumed<B> {
    read: VecDeque<Frame<Bytes>>,
    rest: B,
}

/// The body of a response: tonic's, or one message and its trailers.
pub(super) enum Reply {
    Tonic(Body),
    Message(Bytes),
    Trailers,
    Ended,
}

impl<B> Reading<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
{
    /// `Err` gives back a request that says it is compressed.
    #[allow(clippy::result_large_err, reason = "what it gives back is what it was given")]
    pub(super) fn new(request: Request<B>) -> Result<Reading<B>, Request<B>> {
        match request.headers().get(ENCODING) {
            Some(encoding) if encoding != "identity" => Err(request),
            _ => Ok(Reading { request: Some(request), message: None }),
        }
    }

    /// Ready once, when the client has ended its side or sent what is unusual.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Read<B>> {
        loop {
            let Some(request) = &mut self.request else { return Poll::Pending };
            if self.message.is_some() && request.body().is_end_stream() {
                return Poll::Ready(self.whole());
            }
            let frame = match ready!(Pin::new(request.body_mut()).poll_frame(cx)) {
                None => return Poll::Ready(self.whole()),
                Some(Err(error)) => return Poll::Ready(Read::Broken(error)),
                Some(Ok(frame)) => frame,
            };
            match frame.into_data() {
                Ok(data) if data.is_empty() => {}
                Ok(data) if self.message.is_none() && is_one_message(&data) => self.message = Some(data),
                Ok(data) => return Poll::Ready(self.unusual(Some(Frame::data(data)))),
                Err(trailers) if self.message.is_none() => {
                    return Poll::Ready(self.unusual(Some(trailers)));
                }
                // Trailers of a request say nothing here.
                Err(_) => return Poll::Ready(self.whole()),
            }
        }
    }

    fn whole(&mut self) -> Read<B> {
        let decoded = self.message.as_ref().and_then(|message| {
            // Strings are copied out of it, so the buffer of the connection is free again at once.
            AuthoriseRequest::decode(&message[PREFIX_BYTES..]).ok()
        });
        match decoded {
            Some(message) => {
                (self.request, self.message) = (None, None);
                Read::Message(message)
            }
            None => self.unusual(None),
        }
    }

    fn unusual(&mut self, then: Option<Frame<Bytes>>) -> Read<B> {
        let read = self.message.take().map(Frame::data).into_iter().chain(then).collect();
        let request = self.request.take().expect("a request is given away once");
        Read::Unusual(request.map(|rest| Resumed { read, rest }))
    }
}

/// Whether these bytes are one uncompressed message of a length that is taken, and nothing else.
fn is_one_message(bytes: &[u8]) -> bool {
    let Some((prefix, message)) = bytes.split_first_chunk::<PREFIX_BYTES>() else { return false };
    let [compressed, length @ ..] = *prefix;
    compressed == 0
        && u32::from_be_bytes(length) as usize == message.len()
        && message.len() <= MESSAGE_BYTES_MAX
}

impl<B> HttpBody for Resumed<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.read.pop_front() {
            Some(frame) => Poll::Ready(Some(Ok(frame))),
            None => Pin::new(&mut self.rest).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.read.is_empty() && self.rest.is_end_stream()
    }
}

impl Reply {
    /// A response of one message and the status OK.
    pub(super) fn ok(message: &impl Message) -> Response<Reply> {
        let length = message.encoded_len();
        let mut buffer = BytesMut::with_capacity(PREFIX_BYTES + length);
        buffer.put_u8(0);
        buffer.put_u32(u32::try_from(length).expect("an answer is far below 4 GiB"));
        message.encode_raw(&mut buffer);
        let mut response = Response::new(Reply::Message(buffer.freeze()));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        response
    }
}

impl HttpBody for Reply {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        let frame = match this {
            Reply::Tonic(body) => return Pin::new(body).poll_frame(cx),
            Reply::Message(message) => {
                let message = std::mem::take(message);
                *this = Reply::Trailers;
                Frame::data(message)
            }
            Reply::Trailers => {
                *this = Reply::Ended;
                let mut trailers = HeaderMap::with_capacity(1);
                trailers.insert(Status::GRPC_STATUS, HeaderValue::from_static("0"));
                Frame::trailers(trailers)
            }
            Reply::Ended => return Poll::Ready(None),
        };
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Reply::Tonic(body) => body.is_end_stream(),
            Reply::Message(_) | Reply::Trailers => false,
            Reply::Ended => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, task::Waker};

    use super::*;

    /// Frames that are there, and then the end.
    struct Frames(VecDeque<Frame<Bytes>>);

    impl HttpBody for Frames {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(self.0.pop_front().map(Ok))
        }
    }

    fn message(compressed: u8, length: usize, bytes: &[u8]) -> Vec<u8> {
        let mut message = vec![compressed];
        message.extend((length as u32).to_be_bytes());
        message.extend(bytes);
        message
    }

    fn read(frames: Vec<Frame<Bytes>>) -> Read<Frames> {
        let request = Request::new(Frames(frames.into()));
        let mut reading = Reading::new(request).ok().expect("not compressed");
        match reading.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(read) => read,
            Poll::Pending => panic!("all is there"),
        }
    }

    fn all_of(mut body: impl HttpBody<Data = Bytes> + Unpin) -> Vec<Frame<Bytes>> {
        let mut cx = Context::from_waker(Waker::noop());
        let mut frames = Vec::new();
        while let Poll::Ready(Some(Ok(frame))) = Pin::new(&mut body).poll_frame(&mut cx) {
            frames.push(frame);
        }
        frames
    }

    #[test]
    fn one_whole_message_is_read_here_with_or_without_trailers_and_empty_frames() {
        let request = AuthoriseRequest { transaction_id: "t-1".to_owned(), ..Default::default() };
        let bytes = request.encode_to_vec();
        let whole = Bytes::from(message(0, bytes.len(), &bytes));
        let data = || Frame::data(whole.clone());
        for frames in [
            vec![data()],
            vec![data(), Frame::data(Bytes::new())],
            vec![data(), Frame::trailers(HeaderMap::new())],
        ] {
            let Read::Message(read) = read(frames) else { panic!("a plain message") };
            assert_eq!(read, request);
        }
    }

    #[test]
    fn what_is_unusual_reaches_tonic_whole() {
        let split = message(0, 4, b"\x0a\x02t1");
        let twice = [split.as_slice(), split.as_slice()].concat();
        let too_long = message(0, MESSAGE_BYTES_MAX + 1, &vec![0; MESSAGE_BYTES_MAX + 1]);
        let garbage = message(0, 3, b"\xff\xff\xff");
        for frames in [
            vec![],
            vec![&split[..3], &split[3..]],
            vec![&split[..], &split[..]],
            vec![&twice[..]],
            vec![&message(1, 4, b"\x0a\x02t1")],
            vec![&message(0, 5, b"\x0a\x02t1")],
            vec![&too_long],
            vec![&garbage],
        ] {
            let sent = frames.concat();
            let frames = frames.into_iter().map(|bytes| Frame::data(Bytes::copy_from_slice(bytes))).collect();
            let Read::Unusual(request) = read(frames) else { panic!("unusual: {sent:?}") };
            let read: Vec<u8> = all_of(request.into_body())
                .into_iter()
                .flat_map(|frame| frame.into_data().unwrap())
                .collect();
            assert_eq!(read, sent);
        }
        let compressed = Request::builder().header(ENCODING, "gzip").body(Frames(VecDeque::new())).unwrap();
        assert!(Reading::new(compressed).is_err());
    }

    #[test]
    fn a_reply_is_one_message_and_then_the_status() {
        let answer = AuthoriseRequest { transaction_id: "t-1".to_owned(), ..Default::default() };
        let mut frames = all_of(Reply::ok(&answer).into_body());
        assert_eq!(frames.len(), 2);
        let trailers = frames.pop().unwrap().into_trailers().unwrap();
        assert_eq!(trailers[Status::GRPC_STATUS], "0");
        let data = frames.pop().unwrap().into_data().unwrap();
        assert!(is_one_message(&data));
        assert_eq!(AuthoriseRequest::decode(&data[PREFIX_BYTES..]).unwrap(), answer);
    }
}
