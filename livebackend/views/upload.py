"""/upload and /pictures: storing and serving avatars."""

from typing import Annotated

from pyramid.response import FileResponse, Response
from pyramid.view import view_config

from livebackend.api.base_view import View
from livebackend.api.bilingual_text import documented_field
from livebackend.api.docs_sections import DocsSection
from livebackend.api.error_reasons import ErrorReason
from livebackend.api.errors import InvalidRequest
from livebackend.api.operation_declaration import operation
from livebackend.api.parameter_types import UploadedFile
from livebackend.api.parameters import Parameters
from livebackend.api.request import Request, require_method
from livebackend.api.response_types import PictureLocation
from livebackend.api.responses import OperationResponse, success
from livebackend.api.result_codes import ResultCode
from livebackend.core.errors import EmptyPicture, InvalidPicture, PictureNotStored, PictureTooLarge

_YEAR_S = 365 * 24 * 3600


class UploadedPicture(Parameters):
    img: Annotated[
        UploadedFile, documented_field("image file, at most 5 MiB", "头像文件，不超过5 MiB")
    ]


class UploadViews(View):
    route = "upload"
    docs_section = DocsSection.REGISTRATION

    @operation(
        parameters=UploadedPicture,
        default_error=ResultCode.UNKNOWN_ERROR,
        errors=[EmptyPicture, PictureTooLarge, InvalidPicture, PictureNotStored],
        transaction=False,
        rate_limits=["upload"],
        message_type=PictureLocation,
    )
    def upload(self, params: UploadedPicture) -> OperationResponse:
        """Upload an avatar · 注册step1

        Stores a picture, and returns its location for the profile.

        保存图片，并返回头像路径，用于资料。
        """
        img = params.img
        return success(self.request.services.avatars.save(img.filename, img.file, size=img.size))


@view_config(route_name="picture")
def picture(request: Request) -> Response:
    """Serve an uploaded picture; a file that is not an image is sent as a download."""
    require_method(request, "GET", "HEAD")
    stored_picture = request.services.avatars.find(**request.matchdict)
    if stored_picture is None:
        raise InvalidRequest(404, "path", ErrorReason.UNKNOWN_PATH)
    try:
        response = FileResponse(
            stored_picture.path,
            request=request,
            content_type=stored_picture.media_type or "application/octet-stream",
        )
    except FileNotFoundError as error:  # a concurrent request deleted the picture
        raise InvalidRequest(404, "path", ErrorReason.UNKNOWN_PATH) from error
    # Clients can cache a picture for a year, because a stored picture never changes.
    response.headers["Cache-Control"] = f"public, max-age={_YEAR_S}, immutable"
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Content-Security-Policy"] = "default-src 'none'; sandbox"
    if stored_picture.media_type is None:
        response.headers["Content-Disposition"] = "attachment"
    return response
