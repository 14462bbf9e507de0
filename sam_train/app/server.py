"""The page's server: images, masks, labels and tuning over HTTP, below an address that holds a secret."""

from __future__ import annotations

from pathlib import Path
from secrets import compare_digest
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Request
from fastapi import Path as InPath
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response

from sam_train.app.labeling import Labeling, UnknownImageError
from sam_train.app.requests import SentObjects, SentSteps
from sam_train.app.saving import ConflictError
from sam_train.errors import InputError

MOST_BYTES = 32 << 20
"""Of what the page may send at once: the masks of an image as run lengths are far below."""
_TOO_LARGE = f"more than {MOST_BYTES >> 20} MB at once"
Index = Annotated[int, InPath(ge=0)]
_STATIC = Path(__file__).parent / "static"
_STATUS = {ConflictError: 409, UnknownImageError: 404}
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


def make_app(labeling: Labeling, token: str) -> Any:
    """Return the server of a page.

    Args:
        labeling: What it shows.
        token: The first part of every address; without it nothing is answered.
    """
    app = FastAPI(title="sam-app", docs_url=None, redoc_url=None, openapi_url=None)

    @app.exception_handler(InputError)
    def told(request: Request, error: InputError) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, _STATUS.get(type(error), 422))

    @app.get("/")
    def page() -> FileResponse:
        return FileResponse(_STATIC / "index.html")

    @app.get("/app.js")
    def script() -> FileResponse:
        return FileResponse(_STATIC / "app.js")

    @app.get("/app.css")
    def style() -> FileResponse:
        return FileResponse(_STATIC / "app.css")

    @app.get("/api/state")
    def state() -> dict[str, Any]:
        return labeling.state()

    @app.get("/api/images/{index}/pixels")
    def pixels(index: Index) -> Response:
        return Response(labeling.jpeg(index), media_type="image/jpeg")

    @app.post("/api/images/{index}/prepare")
    def prepare(index: Index) -> dict[str, Any]:
        labeling.prepare(index)
        return {}

    @app.post("/api/images/{index}/masks")
    def masks(index: Index, sent: SentSteps) -> list[dict[str, Any]]:
        return labeling.masks(index, [step.step() for step in sent.steps])

    @app.get("/api/images/{index}/objects")
    def objects(index: Index) -> dict[str, Any]:
        return labeling.objects(index)

    @app.put("/api/images/{index}/objects")
    def accept(index: Index, sent: SentObjects) -> dict[str, Any]:
        return labeling.accept(index, [one.object() for one in sent.objects], sent.revision)

    @app.get("/api/tuning")
    def tuning() -> dict[str, Any]:
        return labeling.tuning()

    @app.post("/api/tuning")
    def tune() -> dict[str, Any]:
        labeling.tune()
        return labeling.tuning()

    @app.delete("/api/tuning")
    def stop() -> dict[str, Any]:
        labeling.tuner.stop()
        return labeling.tuning()

    return Guarded(app, token)


class Guarded:
    """Lets only requests through whose address begins with the token and whose body is not too large.

    Args:
        app: An ASGI application, which is shown addresses without the token.
        token: The token.
    """

    def __init__(self, app: Any, token: str) -> None:
        self.app = app
        self.token = token.encode()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return  # websockets are not spoken here
        first, slash, rest = scope["path"].lstrip("/").partition("/")
        if not compare_digest(first.encode(), self.token):
            text = "This address lacks the word that sam-app has printed. Copy the whole address from there.\n"
            await PlainTextResponse(text, 403, _HEADERS)(scope, receive, send)
            return
        if not slash:  # what the page asks for is below it
            await RedirectResponse(f"/{self.token.decode()}/", headers=_HEADERS)(scope, receive, send)
            return
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if not length.isdigit() or int(length) > MOST_BYTES:
            await JSONResponse({"detail": _TOO_LARGE}, 413, _HEADERS)(scope, receive, send)
            return
        taken = 0

        async def bounded() -> Any:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > MOST_BYTES:
                raise HTTPException(413, _TOO_LARGE)
            return message

        async def answer(message: Any) -> None:
            if message["type"] == "http.response.start":
                own = [(name.lower().encode(), value.encode()) for name, value in _HEADERS.items()]
                message = {**message, "headers": [*message["headers"], *own]}
            await send(message)

        path = f"/{rest}"
        await self.app({**scope, "path": path, "raw_path": path.encode()}, bounded, answer)
