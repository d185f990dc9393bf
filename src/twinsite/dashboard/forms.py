"""Logging in, choosing a project and logging out: plain HTML forms, so that no script ever holds a password."""

from __future__ import annotations

from html import escape

from twinsite.dashboard.session import PageSession

_DOCUMENT = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{title} · Twinsite</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="/ui/static/icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="/ui/static/page.css">
</head>
<body class="plain">
<main class="card login">
<h1><img src="/ui/static/icon.svg" alt="" width="32" height="32"> Twinsite</h1>
{content}
</main>
</body>
</html>
"""


def log_in_page(next_path: str, user: str = "", domain: str = "Default", trouble: str = "") -> str:
    """Return the form that asks for a user and a password; `trouble` says why it is shown again."""
    focus_user, focus_password = ("", " autofocus") if user else (" autofocus", "")
    is_open = " open" if domain != "Default" else ""
    content = f"""<p>Log in with your user of the API.</p>
{_alert(trouble)}
<form method="post" action="/ui/login">
<input type="hidden" name="next" value="{escape(next_path)}">
<label for="user">User</label>
<input id="user" name="user" value="{escape(user)}" required autocomplete="username" autocapitalize="none"{focus_user}>
<label for="password">Password</label>
<input id="password" name="password" type="password" required autocomplete="current-password"{focus_password}>
<details{is_open}><summary>Domain</summary>
<label for="domain">Domain of the user</label>
<input id="domain" name="domain" value="{escape(domain)}">
</details>
<button type="submit" class="button primary">Log in</button>
</form>"""
    return _DOCUMENT.format(title="Log in", content=content)


def project_page(session: PageSession, projects: dict[str, str], next_path: str, trouble: str = "") -> str:
    """Return the form that asks which project to enter."""
    buttons = "\n".join(
        f'<button type="submit" name="project" value="{escape(project_id)}" class="button">{escape(name)}</button>'
        for project_id, name in sorted(projects.items(), key=lambda item: item[1])
    )
    nothing = "" if projects else "<p>You have a role in no project. Ask an administrator for one.</p>"
    content = f"""<p>You are {escape(session.user_name)}. Choose a project.</p>
{_alert(trouble)}{nothing}
<form method="post" action="/ui/project">
<input type="hidden" name="next" value="{escape(next_path)}">
{buttons}
</form>
<form method="post" action="/ui/logout"><button type="submit" class="button quiet">Log out</button></form>"""
    return _DOCUMENT.format(title="Choose a project", content=content)


def trouble_page(title: str, text: str) -> str:
    """Return a page that says what went wrong, and leads back."""
    content = f'{_alert(text)}<p><a href="/ui/">Back to the overview</a></p>'
    return _DOCUMENT.format(title=escape(title), content=content)


def _alert(text: str) -> str:
    return f'<p class="alert" role="alert">{escape(text)}</p>' if text else ""
