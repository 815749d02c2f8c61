"""Example values in the documentation. The users are Ann, who is live, and Ben."""

ANN_PHONE = "13800000001"
ANN_ID = "u_5d41402abc4b2a76b971"
BEN_PHONE = "13800000002"
BEN_ID = "u_7d793037a0760186574b"
# The beginning of a token, which is longer.
LOGIN_TOKEN = "eyJ0eXAiOiJsb2dpbiIsInN1YiI6MX0"  # noqa: S105
PICTURE = "http://127.0.0.1:6543/pictures/0f8fad5bd9cb469fa16570867728950e/ann.png"
REQUEST_TIME = "2017-01-06T02:28:45.799000Z"
# The friend request that Ann sent to Ben at REQUEST_TIME.
ANN_MESSAGE_ID = f"{ANN_PHONE},1483669725799000"
BEN_MESSAGE_ID = f"{BEN_PHONE},1483669725799000"
STREAM_TITLE = "586f00dd5e77b017852a1a7e"
