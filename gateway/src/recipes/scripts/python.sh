# Python: into the site-packages of the `python3` on the path, which it searches without any variable.
python=$(command -v python3 || command -v python) ||
    unsupported 'the base has no python3 on its path; use a Python runtime as the base.'

# A distribution marks its Python as its own to manage; inside an image nobody else would.
if has uv; then
    uv pip install --system --break-system-packages --python "$python" -r "$file"
elif "$python" -m pip --version >/dev/null; then
    # As variables, because an older pip passes over those that it doesn't know.
    export PIP_NO_INPUT=1 PIP_PROGRESS_BAR=off PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PIP_BREAK_SYSTEM_PACKAGES=1
    "$python" -m pip install -r "$file"
else
    unsupported 'the base has neither uv nor pip; use a base that has one of them.'
fi
