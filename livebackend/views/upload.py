"""/upload: a picture for one's avatar; and where pictures are seen."""

from typing import Annotated

from pyramid.response import FileResponse, Response
from pyramid.view import view_config

from livebackend.api.declaration import operation
from livebackend.api.error_reasons import Reason
from livebackend.api.errors import NotACall
from livebackend.api.parameter_types import UploadedFile
from livebackend.api.parameters import Params, described
from livebackend.api.request import Request, require_method
from livebackend.api.responses import Reply, ok
from livebackend.api.result_codes import Result
from livebackend.api.view import View

_A_YEAR_S = 365 * 24 * 3600


class Picture(Params):
    img: Annotated[UploadedFile, described("the picture, up to 5 MiB", "头像文件，不超过5 MiB")]


class UploadPicture(View):
    route = "upload"
    chapter = "Joining · 注册"

    @operation(
        params=Picture,
        refusal=Result.REFUSED,
        transaction=False,
        limits=["upload"],
        message=str,
    )
    def upload(self, given: Picture) -> Reply:
        """Keep a picture for the avatar · 注册step1"""
        img = given.img
        return ok(self.request.services.avatars.keep(img.filename, img.file, size=img.size))


@view_config(route_name="picture")
def picture(request: Request) -> Response:
    """A picture that was uploaded. Whatever is none is for saving, never shown by a browser."""
    require_method(request, "GET", "HEAD")
    kept = request.services.avatars.find(**request.matchdict)
    if kept is None:
        raise NotACall(404, "path", Reason.WRONG_PATH)
    response = FileResponse(
        kept.path,
        request=request,
        content_type=kept.media_type or "application/octet-stream",
    )
    # What is kept is never changed, and its URL cannot be guessed.
    response.headers["Cache-Control"] = f"public, max-age={_A_YEAR_S}, immutable"
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Content-Security-Policy"] = "default-src 'none'; sandbox"
    if kept.media_type is None:
        response.headers["Content-Disposition"] = "attachment"
    return response
