"""The site once the book has a public address: built again, with buttons, links and a sitemap."""

import re
import shutil
from pathlib import Path

from tests.site import CHAPTERS, PAGES, PICTURE, ROOT, SITE, said, soup
from tools import book, repository


def test_with_an_address_buttons_and_links_follow(tmp_path: Path) -> None:
    names = [
        "_config.yml",
        "_toc.yml",
        "README.md",
        "CITATION.cff",
        "CONTRIBUTING.md",
        "book",
        "notebooks",
    ]
    for name in names:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tmp_path / name)
        else:
            shutil.copy(source, tmp_path)
    (tmp_path / "_build").mkdir()
    for name in ("assets", "site"):
        (tmp_path / "_build" / name).symlink_to(ROOT / "_build" / name)
    url = "https://github.com/some-owner/some-book"
    repository.set_address(url, tmp_path)
    assert book.build(tmp_path) == ""
    for chapter in CHAPTERS:
        html = soup(tmp_path / "_build" / "html" / chapter.relative_to(SITE))
        links = [str(link["href"]) for link in html.find_all("a", href=True)]
        colab = "https://colab.research.google.com/github/some-owner/some-book/blob/main/notebooks/"
        assert f"{colab}{chapter.stem}.ipynb" in links
        assert url in links
        assert f'REPOSITORY = "{url}"' in html.get_text()
    site = tmp_path / "_build" / "html"
    assert f"git clone {url}" in soup(site / "book" / "index.html").get_text()
    # What search engines and previews of links need: absolute addresses.
    home = "https://some-owner.github.io/some-book/"
    listed = re.findall(r"<loc>(.*?)</loc>", (site / "sitemap.xml").read_text(encoding="utf-8"))
    read = {str(page.relative_to(SITE)) for page in PAGES if page.parent.name in {"book", "notebooks"}}
    assert sorted(listed) == sorted(home + page for page in read)
    for page in read:
        assert said(site / page, "link[rel=canonical]", "href") == home + page
        assert said(site / page, "meta[property='og:url']", "content") == home + page
    for page in (*read, "index.html", "playground/index.html"):
        assert said(site / page, PICTURE, "content") == f"{home}preview.png"
    assert (site / "preview.png").is_file()
