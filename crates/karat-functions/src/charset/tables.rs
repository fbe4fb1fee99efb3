//! Single-byte character sets: what the bytes stand for, and the names of all sets in
//! the IANA register that are supported.

use super::Table;

#[rustfmt::skip]
const IBM_CODE_PAGE_037: &str = "\
\u{0}\u{1}\u{2}\u{3}\u{9c}\u{9}\u{86}\u{7f}\u{97}\u{8d}\u{8e}\u{b}\u{c}\u{d}\u{e}\u{f}\
\u{10}\u{11}\u{12}\u{13}\u{9d}\u{85}\u{8}\u{87}\u{18}\u{19}\u{92}\u{8f}\u{1c}\u{1d}\u{1e}\
\u{1f}\u{80}\u{81}\u{82}\u{83}\u{84}\u{a}\u{17}\u{1b}\u{88}\u{89}\u{8a}\u{8b}\u{8c}\u{5}\
\u{6}\u{7}\u{90}\u{91}\u{16}\u{93}\u{94}\u{95}\u{96}\u{4}\u{98}\u{99}\u{9a}\u{9b}\u{14}\
\u{15}\u{9e}\u{1a} \u{a0}âäàáãåçñ¢.<(+|&éêëèíîïìß!$*);¬-/ÂÄÀÁÃÅÇÑ¦,%_>?øÉÊËÈÍÎÏÌ`:#@'=\"Øa\
bcdefghi«»ðýþ±°jklmnopqrªºæ¸Æ¤µ~stuvwxyz¡¿ÐÝÞ®^£¥·©§¶¼½¾[]¯¨´×{ABCDEFGHI\u{ad}ôöòóõ}JKLMNO\
PQR¹ûüùúÿ\\÷STUVWXYZ²ÔÖÒÓÕ0123456789³ÛÜÙÚ\u{9f}";

#[rustfmt::skip]
const IBM_CODE_PAGE_1047: &str = "\
\u{0}\u{1}\u{2}\u{3}\u{9c}\u{9}\u{86}\u{7f}\u{97}\u{8d}\u{8e}\u{b}\u{c}\u{d}\u{e}\u{f}\
\u{10}\u{11}\u{12}\u{13}\u{9d}\u{85}\u{8}\u{87}\u{18}\u{19}\u{92}\u{8f}\u{1c}\u{1d}\u{1e}\
\u{1f}\u{80}\u{81}\u{82}\u{83}\u{84}\u{a}\u{17}\u{1b}\u{88}\u{89}\u{8a}\u{8b}\u{8c}\u{5}\
\u{6}\u{7}\u{90}\u{91}\u{16}\u{93}\u{94}\u{95}\u{96}\u{4}\u{98}\u{99}\u{9a}\u{9b}\u{14}\
\u{15}\u{9e}\u{1a} \u{a0}âäàáãåçñ¢.<(+|&éêëèíîïìß!$*);^-/ÂÄÀÁÃÅÇÑ¦,%_>?øÉÊËÈÍÎÏÌ`:#@'=\"Øa\
bcdefghi«»ðýþ±°jklmnopqrªºæ¸Æ¤µ~stuvwxyz¡¿Ð[Þ®¬£¥·©§¶¼½¾Ý¨¯]´×{ABCDEFGHI\u{ad}ôöòóõ}JKLMNO\
PQR¹ûüùúÿ\\÷STUVWXYZ²ÔÖÒÓÕ0123456789³ÛÜÙÚ\u{9f}";

#[rustfmt::skip]
const IBM_CODE_PAGE_1140: &str = "\
\u{0}\u{1}\u{2}\u{3}\u{9c}\u{9}\u{86}\u{7f}\u{97}\u{8d}\u{8e}\u{b}\u{c}\u{d}\u{e}\u{f}\
\u{10}\u{11}\u{12}\u{13}\u{9d}\u{85}\u{8}\u{87}\u{18}\u{19}\u{92}\u{8f}\u{1c}\u{1d}\u{1e}\
\u{1f}\u{80}\u{81}\u{82}\u{83}\u{84}\u{a}\u{17}\u{1b}\u{88}\u{89}\u{8a}\u{8b}\u{8c}\u{5}\
\u{6}\u{7}\u{90}\u{91}\u{16}\u{93}\u{94}\u{95}\u{96}\u{4}\u{98}\u{99}\u{9a}\u{9b}\u{14}\
\u{15}\u{9e}\u{1a} \u{a0}âäàáãåçñ¢.<(+|&éêëèíîïìß!$*);¬-/ÂÄÀÁÃÅÇÑ¦,%_>?øÉÊËÈÍÎÏÌ`:#@'=\"Øa\
bcdefghi«»ðýþ±°jklmnopqrªºæ¸Æ€µ~stuvwxyz¡¿ÐÝÞ®^£¥·©§¶¼½¾[]¯¨´×{ABCDEFGHI\u{ad}ôöòóõ}JKLMNO\
PQR¹ûüùúÿ\\÷STUVWXYZ²ÔÖÒÓÕ0123456789³ÛÜÙÚ\u{9f}";

#[rustfmt::skip]
const IBM_CODE_PAGE_437: &str = "\
ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘\
┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u{a0}";

#[rustfmt::skip]
const IBM_CODE_PAGE_850: &str = "\
ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜø£Ø×ƒáíóúñÑªº¿®¬½¼¡«»░▒▓│┤ÁÂÀ©╣║╗╝¢¥┐└┴┬├─┼ãÃ╚╔╩╦╠═╬¤ðÐÊËÈıÍÎÏ┘\
┌█▄¦Ì▀ÓßÔÒõÕµþÞÚÛÙýÝ¯´\u{ad}±‗¾¶§÷¸°¨·¹³²■\u{a0}";

#[rustfmt::skip]
const IBM_CODE_PAGE_852: &str = "\
ÇüéâäůćçłëŐőîŹÄĆÉĹĺôöĽľŚśÖÜŤťŁ×čáíóúĄąŽžĘę¬źČş«»░▒▓│┤ÁÂĚŞ╣║╗╝Żż┐└┴┬├─┼Ăă╚╔╩╦╠═╬¤đĐĎËďŇÍÎě┘\
┌█▄ŢŮ▀ÓßÔŃńňŠšŔÚŕŰýÝţ´\u{ad}˝˛ˇ˘§÷¸°¨˙űŘř■\u{a0}";

#[rustfmt::skip]
const IBM_CODE_PAGE_855: &str = "\
ђЂѓЃёЁєЄѕЅіІїЇјЈљЉњЊћЋќЌўЎџЏюЮъЪаАбБцЦдДеЕфФгГ«»░▒▓│┤хХиИ╣║╗╝йЙ┐└┴┬├─┼кК╚╔╩╦╠═╬¤лЛмМнНоОп┘\
┌█▄Пя▀ЯрРсСтТуУжЖвВьЬ№\u{ad}ыЫзЗшШэЭщЩчЧ§■\u{a0}";

#[rustfmt::skip]
const IBM_CODE_PAGE_860: &str = "\
ÇüéâãàÁçêÊèÍÔìÃÂÉÀÈôõòÚùÌÕÜ¢£Ù₧ÓáíóúñÑªº¿Ò¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘\
┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u{a0}";

#[rustfmt::skip]
const IBM_CODE_PAGE_862: &str = "\
\u{5d0}\u{5d1}\u{5d2}\u{5d3}\u{5d4}\u{5d5}\u{5d6}\u{5d7}\u{5d8}\u{5d9}\u{5da}\u{5db}\
\u{5dc}\u{5dd}\u{5de}\u{5df}\u{5e0}\u{5e1}\u{5e2}\u{5e3}\u{5e4}\u{5e5}\u{5e6}\u{5e7}\
\u{5e8}\u{5e9}\u{5ea}¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀\
αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u{a0}";

#[rustfmt::skip]
const IBM_CODE_PAGE_863: &str = "\
ÇüéâÂà¶çêëèïî‗À§ÉÈÊôËÏûù¤ÔÜ¢£ÙÛƒ¦´óú¨¸³¯Î⌐¬½¼¾«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘\
┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u{a0}";

#[rustfmt::skip]
const IBM_CODE_PAGE_865: &str = "\
ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜø£Ø₧ƒáíóúñÑªº¿⌐¬½¼¡«¤░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘\
┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u{a0}";

#[rustfmt::skip]
const IBM_CODE_PAGE_866: &str = "\
АБВГДЕЖЗИЙКЛМНОПРСТУФХЦЧШЩЪЫЬЭЮЯабвгдежзийклмноп░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘\
┌█▄▌▐▀рстуфхцчшщъыьэюяЁёЄєЇїЎў°∙·√№¤■\u{a0}";

#[rustfmt::skip]
const ISO_8859_1: &str = "\
\u{80}\u{81}\u{82}\u{83}\u{84}\u{85}\u{86}\u{87}\u{88}\u{89}\u{8a}\u{8b}\u{8c}\u{8d}\u{8e}\
\u{8f}\u{90}\u{91}\u{92}\u{93}\u{94}\u{95}\u{96}\u{97}\u{98}\u{99}\u{9a}\u{9b}\u{9c}\u{9d}\
\u{9e}\u{9f}\u{a0}¡¢£¤¥¦§¨©ª«¬\u{ad}®¯°±²³´µ¶·¸¹º»¼½¾¿ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÐÑÒÓÔÕÖ×ØÙÚÛÜÝÞßàáâã\
äåæçèéêëìíîïðñòóôõö÷øùúûüýþÿ";

#[rustfmt::skip]
const ISO_8859_10: &str = "\
\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\
\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\
\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{a0}ĄĒĢĪ\
ĨĶ§ĻĐŠŦŽ\u{ad}ŪŊ°ąēģīĩķ·ļđšŧž―ūŋĀÁÂÃÄÅÆĮČÉĘËĖÍÎÏÐŅŌÓÔÕÖŨØŲÚÛÜÝÞßāáâãäåæįčéęëėíîïðņōóôõöũøų\
úûüýþĸ";

#[rustfmt::skip]
const ISO_8859_13: &str = "\
\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\
\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\
\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{a0}”¢£¤\
„¦§Ø©Ŗ«¬\u{ad}®Æ°±²³“µ¶·ø¹ŗ»¼½¾æĄĮĀĆÄÅĘĒČÉŹĖĢĶĪĻŠŃŅÓŌÕÖ×ŲŁŚŪÜŻŽßąįāćäåęēčéźėģķīļšńņóōõö÷ųł\
śūüżž’";

#[rustfmt::skip]
const ISO_8859_14: &str = "\
\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\
\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\
\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{a0}Ḃḃ£Ċ\
ċḊ§Ẁ©ẂḋỲ\u{ad}®ŸḞḟĠġṀṁ¶ṖẁṗẃṠỳẄẅṡÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏŴÑÒÓÔÕÖṪØÙÚÛÜÝŶßàáâãäåæçèéêëìíîïŵñòóôõöṫøù\
úûüýŷÿ";

#[rustfmt::skip]
const ISO_8859_15: &str = "\
\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\
\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\
\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{a0}¡¢£€\
¥Š§š©ª«¬\u{ad}®¯°±²³Žµ¶·ž¹º»ŒœŸ¿ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÐÑÒÓÔÕÖ×ØÙÚÛÜÝÞßàáâãäåæçèéêëìíîïðñòóôõö÷øù\
úûüýþÿ";

#[rustfmt::skip]
const ISO_8859_16: &str = "\
\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\
\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\
\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{a0}ĄąŁ€\
„Š§š©Ș«Ź\u{ad}źŻ°±ČłŽ”¶·žčș»ŒœŸżÀÁÂĂÄĆÆÇÈÉÊËÌÍÎÏĐŃÒÓÔŐÖŚŰÙÚÛÜĘȚßàáâăäćæçèéêëìíîïđńòóôőöśűù\
úûüęțÿ";

#[rustfmt::skip]
const ISO_8859_2: &str = "\
\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\
\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\
\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{a0}Ą˘Ł¤\
ĽŚ§¨ŠŞŤŹ\u{ad}ŽŻ°ą˛ł´ľśˇ¸šşťź˝žżŔÁÂĂÄĹĆÇČÉĘËĚÍÎĎĐŃŇÓÔŐÖ×ŘŮÚŰÜÝŢßŕáâăäĺćçčéęëěíîďđńňóôőö÷řů\
úűüýţ˙";

#[rustfmt::skip]
const ISO_8859_3: &str = "\
\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\
\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\
\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{a0}Ħ˘£¤\
\u{fffd}Ĥ§¨İŞĞĴ\u{ad}\u{fffd}Ż°ħ²³´µĥ·¸ışğĵ½\u{fffd}żÀÁÂ\u{fffd}ÄĊĈÇÈÉÊËÌÍÎÏ\u{fffd}ÑÒÓÔĠÖ\
×ĜÙÚÛÜŬŜßàáâ\u{fffd}äċĉçèéêëìíîï\u{fffd}ñòóôġö÷ĝùúûüŭŝ˙";

#[rustfmt::skip]
const ISO_8859_4: &str = "\
\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\
\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\
\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{a0}ĄĸŖ¤\
ĨĻ§¨ŠĒĢŦ\u{ad}Ž¯°ą˛ŗ´ĩļˇ¸šēģŧŊžŋĀÁÂÃÄÅÆĮČÉĘËĖÍÎĪĐŅŌĶÔÕÖ×ØŲÚÛÜŨŪßāáâãäåæįčéęëėíîīđņōķôõö÷øų\
úûüũū˙";

#[rustfmt::skip]
const ISO_8859_5: &str = "\
\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\
\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\
\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{a0}ЁЂЃЄ\
ЅІЇЈЉЊЋЌ\u{ad}ЎЏАБВГДЕЖЗИЙКЛМНОПРСТУФХЦЧШЩЪЫЬЭЮЯабвгдежзийклмнопрстуфхцчшщъыьэюя№ёђѓєѕіїјљ\
њћќ§ўџ";

#[rustfmt::skip]
const ISO_8859_6: &str = "\
\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\
\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\
\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{a0}\
\u{fffd}\u{fffd}\u{fffd}¤\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{60c}\
\u{ad}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\
\u{fffd}\u{fffd}\u{fffd}\u{61b}\u{fffd}\u{fffd}\u{fffd}\u{61f}\u{fffd}\u{621}\u{622}\
\u{623}\u{624}\u{625}\u{626}\u{627}\u{628}\u{629}\u{62a}\u{62b}\u{62c}\u{62d}\u{62e}\
\u{62f}\u{630}\u{631}\u{632}\u{633}\u{634}\u{635}\u{636}\u{637}\u{638}\u{639}\u{63a}\
\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{640}\u{641}\u{642}\u{643}\u{644}\u{645}\u{646}\
\u{647}\u{648}\u{649}\u{64a}\u{64b}\u{64c}\u{64d}\u{64e}\u{64f}\u{650}\u{651}\u{652}\
\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\
\u{fffd}\u{fffd}";

#[rustfmt::skip]
const ISO_8859_7: &str = "\
\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\
\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\
\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{a0}‘’£€\
₯¦§¨©ͺ«¬\u{ad}\u{fffd}―°±²³΄΅Ά·ΈΉΊ»Ό½ΎΏΐΑΒΓΔΕΖΗΘΙΚΛΜΝΞΟΠΡ\u{fffd}ΣΤΥΦΧΨΩΪΫάέήίΰαβγδεζηθικλ\
μνξοπρςστυφχψωϊϋόύώ\u{fffd}";

#[rustfmt::skip]
const ISO_8859_8: &str = "\
\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\
\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\
\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{a0}\
\u{fffd}¢£¤¥¦§¨©×«¬\u{ad}®¯°±²³´µ¶·¸¹÷»¼½¾\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\
\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\
\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\
\u{fffd}\u{fffd}\u{fffd}\u{fffd}‗\u{5d0}\u{5d1}\u{5d2}\u{5d3}\u{5d4}\u{5d5}\u{5d6}\u{5d7}\
\u{5d8}\u{5d9}\u{5da}\u{5db}\u{5dc}\u{5dd}\u{5de}\u{5df}\u{5e0}\u{5e1}\u{5e2}\u{5e3}\
\u{5e4}\u{5e5}\u{5e6}\u{5e7}\u{5e8}\u{5e9}\u{5ea}\u{fffd}\u{fffd}\u{200e}\u{200f}\u{fffd}";

#[rustfmt::skip]
const ISO_8859_9: &str = "\
\u{80}\u{81}\u{82}\u{83}\u{84}\u{85}\u{86}\u{87}\u{88}\u{89}\u{8a}\u{8b}\u{8c}\u{8d}\u{8e}\
\u{8f}\u{90}\u{91}\u{92}\u{93}\u{94}\u{95}\u{96}\u{97}\u{98}\u{99}\u{9a}\u{9b}\u{9c}\u{9d}\
\u{9e}\u{9f}\u{a0}¡¢£¤¥¦§¨©ª«¬\u{ad}®¯°±²³´µ¶·¸¹º»¼½¾¿ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏĞÑÒÓÔÕÖ×ØÙÚÛÜİŞßàáâã\
äåæçèéêëìíîïğñòóôõö÷øùúûüışÿ";

#[rustfmt::skip]
const KOI8_R: &str = "\
─│┌┐└┘├┤┬┴┼▀▄█▌▐░▒▓⌠■∙√≈≤≥\u{a0}⌡°²·÷═║╒ё╓╔╕╖╗╘╙╚╛╜╝╞╟╠╡Ё╢╣╤╥╦╧╨╩╪╫╬©юабцдефгхийклмнопярст\
ужвьызшэщчъЮАБЦДЕФГХИЙКЛМНОПЯРСТУЖВЬЫЗШЭЩЧЪ";

#[rustfmt::skip]
const KOI8_U: &str = "\
─│┌┐└┘├┤┬┴┼▀▄█▌▐░▒▓⌠■∙√≈≤≥\u{a0}⌡°²·÷═║╒ёє╔ії╗╘╙╚╛ґў╞╟╠╡ЁЄ╣ІЇ╦╧╨╩╪ҐЎ©юабцдефгхийклмнопярст\
ужвьызшэщчъЮАБЦДЕФГХИЙКЛМНОПЯРСТУЖВЬЫЗШЭЩЧЪ";

#[rustfmt::skip]
const MACINTOSH: &str = "\
ÄÅÇÉÑÖÜáàâäãåçéèêëíìîïñóòôöõúùûü†°¢£§•¶ß®©™´¨≠ÆØ∞±≤≥¥µ∂∑∏π∫ªºΩæø¿¡¬√ƒ≈∆«»…\u{a0}ÀÃÕŒœ–—“”‘\
’÷◊ÿŸ⁄€‹›\u{fb01}\u{fb02}‡·‚„‰ÂÊÁËÈÍÎÏÌÓÔ\u{f8ff}ÒÚÛÙıˆ˜¯˘˙˚¸˝˛ˇ";

#[rustfmt::skip]
const WINDOWS_1250: &str = "\
€\u{fffd}‚\u{fffd}„…†‡\u{fffd}‰Š‹ŚŤŽŹ\u{fffd}‘’“”•–—\u{fffd}™š›śťžź\u{a0}ˇ˘Ł¤Ą¦§¨©Ş«¬\
\u{ad}®Ż°±˛ł´µ¶·¸ąş»Ľ˝ľżŔÁÂĂÄĹĆÇČÉĘËĚÍÎĎĐŃŇÓÔŐÖ×ŘŮÚŰÜÝŢßŕáâăäĺćçčéęëěíîďđńňóôőö÷řůúűüýţ˙";

#[rustfmt::skip]
const WINDOWS_1251: &str = "\
ЂЃ‚ѓ„…†‡€‰Љ‹ЊЌЋЏђ‘’“”•–—\u{fffd}™љ›њќћџ\u{a0}ЎўЈ¤Ґ¦§Ё©Є«¬\u{ad}®Ї°±Ііґµ¶·ё№є»јЅѕїАБВГДЕЖЗИ\
ЙКЛМНОПРСТУФХЦЧШЩЪЫЬЭЮЯабвгдежзийклмнопрстуфхцчшщъыьэюя";

#[rustfmt::skip]
const WINDOWS_1252: &str = "\
€\u{fffd}‚ƒ„…†‡ˆ‰Š‹Œ\u{fffd}Ž\u{fffd}\u{fffd}‘’“”•–—˜™š›œ\u{fffd}žŸ\u{a0}¡¢£¤¥¦§¨©ª«¬\
\u{ad}®¯°±²³´µ¶·¸¹º»¼½¾¿ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÐÑÒÓÔÕÖ×ØÙÚÛÜÝÞßàáâãäåæçèéêëìíîïðñòóôõö÷øùúûüýþÿ";

#[rustfmt::skip]
const WINDOWS_1253: &str = "\
€\u{fffd}‚ƒ„…†‡\u{fffd}‰\u{fffd}‹\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}‘’“”•–—\u{fffd}™\
\u{fffd}›\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{a0}΅Ά£¤¥¦§¨©\u{fffd}«¬\u{ad}®―°±²³΄µ¶·ΈΉΊ»Ό½ΎΏ\
ΐΑΒΓΔΕΖΗΘΙΚΛΜΝΞΟΠΡ\u{fffd}ΣΤΥΦΧΨΩΪΫάέήίΰαβγδεζηθικλμνξοπρςστυφχψωϊϋόύώ\u{fffd}";

#[rustfmt::skip]
const WINDOWS_1254: &str = "\
€\u{fffd}‚ƒ„…†‡ˆ‰Š‹Œ\u{fffd}\u{fffd}\u{fffd}\u{fffd}‘’“”•–—˜™š›œ\u{fffd}\u{fffd}Ÿ\u{a0}¡¢£\
¤¥¦§¨©ª«¬\u{ad}®¯°±²³´µ¶·¸¹º»¼½¾¿ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏĞÑÒÓÔÕÖ×ØÙÚÛÜİŞßàáâãäåæçèéêëìíîïğñòóôõö÷ø\
ùúûüışÿ";

#[rustfmt::skip]
const WINDOWS_1255: &str = "\
€\u{fffd}‚ƒ„…†‡ˆ‰\u{fffd}‹\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}‘’“”•–—˜™\u{fffd}›\
\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{a0}¡¢£₪¥¦§¨©×«¬\u{ad}®¯°±²³´µ¶·¸¹÷»¼½¾¿\u{5b0}\u{5b1}\
\u{5b2}\u{5b3}\u{5b4}\u{5b5}\u{5b6}\u{5b7}\u{5b8}\u{5b9}\u{5ba}\u{5bb}\u{5bc}\u{5bd}\
\u{5be}\u{5bf}\u{5c0}\u{5c1}\u{5c2}\u{5c3}\u{5f0}\u{5f1}\u{5f2}\u{5f3}\u{5f4}\u{fffd}\
\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{5d0}\u{5d1}\u{5d2}\u{5d3}\u{5d4}\u{5d5}\
\u{5d6}\u{5d7}\u{5d8}\u{5d9}\u{5da}\u{5db}\u{5dc}\u{5dd}\u{5de}\u{5df}\u{5e0}\u{5e1}\
\u{5e2}\u{5e3}\u{5e4}\u{5e5}\u{5e6}\u{5e7}\u{5e8}\u{5e9}\u{5ea}\u{fffd}\u{fffd}\u{200e}\
\u{200f}\u{fffd}";

#[rustfmt::skip]
const WINDOWS_1256: &str = "\
€\u{67e}‚ƒ„…†‡ˆ‰\u{679}‹Œ\u{686}\u{698}\u{688}\u{6af}‘’“”•–—\u{6a9}™\u{691}›œ\u{200c}\
\u{200d}\u{6ba}\u{a0}\u{60c}¢£¤¥¦§¨©\u{6be}«¬\u{ad}®¯°±²³´µ¶·¸¹\u{61b}»¼½¾\u{61f}\u{6c1}\
\u{621}\u{622}\u{623}\u{624}\u{625}\u{626}\u{627}\u{628}\u{629}\u{62a}\u{62b}\u{62c}\
\u{62d}\u{62e}\u{62f}\u{630}\u{631}\u{632}\u{633}\u{634}\u{635}\u{636}×\u{637}\u{638}\
\u{639}\u{63a}\u{640}\u{641}\u{642}\u{643}à\u{644}â\u{645}\u{646}\u{647}\u{648}çèéêë\
\u{649}\u{64a}îï\u{64b}\u{64c}\u{64d}\u{64e}ô\u{64f}\u{650}÷\u{651}ù\u{652}ûü\u{200e}\
\u{200f}\u{6d2}";

#[rustfmt::skip]
const WINDOWS_1257: &str = "\
€\u{fffd}‚\u{fffd}„…†‡\u{fffd}‰\u{fffd}‹\u{fffd}¨ˇ¸\u{fffd}‘’“”•–—\u{fffd}™\u{fffd}›\
\u{fffd}¯˛\u{fffd}\u{a0}\u{fffd}¢£¤\u{fffd}¦§Ø©Ŗ«¬\u{ad}®Æ°±²³´µ¶·ø¹ŗ»¼½¾æĄĮĀĆÄÅĘĒČÉŹĖĢĶĪĻ\
ŠŃŅÓŌÕÖ×ŲŁŚŪÜŻŽßąįāćäåęēčéźėģķīļšńņóōõö÷ųłśūüżž˙";

#[rustfmt::skip]
const WINDOWS_1258: &str = "\
€\u{fffd}‚ƒ„…†‡ˆ‰\u{fffd}‹Œ\u{fffd}\u{fffd}\u{fffd}\u{fffd}‘’“”•–—˜™\u{fffd}›œ\u{fffd}\
\u{fffd}Ÿ\u{a0}¡¢£¤¥¦§¨©ª«¬\u{ad}®¯°±²³´µ¶·¸¹º»¼½¾¿ÀÁÂĂÄÅÆÇÈÉÊË\u{300}ÍÎÏĐÑ\u{309}ÓÔƠÖ×ØÙÚ\
ÛÜƯ\u{303}ßàáâăäåæçèéêë\u{301}íîïđñ\u{323}óôơö÷øùúûüư₫ÿ";

#[rustfmt::skip]
const WINDOWS_874: &str = "\
€\u{fffd}\u{fffd}\u{fffd}\u{fffd}…\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\
\u{fffd}\u{fffd}\u{fffd}\u{fffd}‘’“”•–—\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\
\u{fffd}\u{fffd}\u{a0}\u{e01}\u{e02}\u{e03}\u{e04}\u{e05}\u{e06}\u{e07}\u{e08}\u{e09}\
\u{e0a}\u{e0b}\u{e0c}\u{e0d}\u{e0e}\u{e0f}\u{e10}\u{e11}\u{e12}\u{e13}\u{e14}\u{e15}\
\u{e16}\u{e17}\u{e18}\u{e19}\u{e1a}\u{e1b}\u{e1c}\u{e1d}\u{e1e}\u{e1f}\u{e20}\u{e21}\
\u{e22}\u{e23}\u{e24}\u{e25}\u{e26}\u{e27}\u{e28}\u{e29}\u{e2a}\u{e2b}\u{e2c}\u{e2d}\
\u{e2e}\u{e2f}\u{e30}\u{e31}\u{e32}\u{e33}\u{e34}\u{e35}\u{e36}\u{e37}\u{e38}\u{e39}\
\u{e3a}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{e3f}\u{e40}\u{e41}\u{e42}\u{e43}\u{e44}\u{e45}\
\u{e46}\u{e47}\u{e48}\u{e49}\u{e4a}\u{e4b}\u{e4c}\u{e4d}\u{e4e}\u{e4f}\u{e50}\u{e51}\
\u{e52}\u{e53}\u{e54}\u{e55}\u{e56}\u{e57}\u{e58}\u{e59}\u{e5a}\u{e5b}\u{fffd}\u{fffd}\
\u{fffd}\u{fffd}";

#[rustfmt::skip]
const WINDOWS_CODE_PAGE_858: &str = "\
ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜø£Ø×ƒáíóúñÑªº¿®¬½¼¡«»░▒▓│┤ÁÂÀ©╣║╗╝¢¥┐└┴┬├─┼ãÃ╚╔╩╦╠═╬¤ðÐÊËÈ€ÍÎÏ┘\
┌█▄¦Ì▀ÓßÔÒõÕµþÞÚÛÙýÝ¯´\u{ad}±‗¾¶§÷¸°¨·¹³²■\u{a0}";

/// Names in small letters, with what they stand for.
#[rustfmt::skip]
pub(super) const NAMES: &[(&str, Table)] = &[
    ("ansi_x3.4-1968", Table::Ascii),
    ("ansi_x3.4-1986", Table::Ascii),
    ("cp367", Table::Ascii),
    ("csascii", Table::Ascii),
    ("ibm367", Table::Ascii),
    ("iso-ir-6", Table::Ascii),
    ("iso646-us", Table::Ascii),
    ("iso_646.irv:1991", Table::Ascii),
    ("us", Table::Ascii),
    ("us-ascii", Table::Ascii),
    ("cp819", Table::Bytes(ISO_8859_1)),
    ("csisolatin1", Table::Bytes(ISO_8859_1)),
    ("ibm819", Table::Bytes(ISO_8859_1)),
    ("iso-8859-1", Table::Bytes(ISO_8859_1)),
    ("iso-ir-100", Table::Bytes(ISO_8859_1)),
    ("iso_8859-1", Table::Bytes(ISO_8859_1)),
    ("iso_8859-1:1987", Table::Bytes(ISO_8859_1)),
    ("l1", Table::Bytes(ISO_8859_1)),
    ("latin1", Table::Bytes(ISO_8859_1)),
    ("csisolatin2", Table::Bytes(ISO_8859_2)),
    ("iso-8859-2", Table::Bytes(ISO_8859_2)),
    ("iso-ir-101", Table::Bytes(ISO_8859_2)),
    ("iso_8859-2", Table::Bytes(ISO_8859_2)),
    ("iso_8859-2:1987", Table::Bytes(ISO_8859_2)),
    ("l2", Table::Bytes(ISO_8859_2)),
    ("latin2", Table::Bytes(ISO_8859_2)),
    ("csisolatin3", Table::Bytes(ISO_8859_3)),
    ("iso-8859-3", Table::Bytes(ISO_8859_3)),
    ("iso-ir-109", Table::Bytes(ISO_8859_3)),
    ("iso_8859-3", Table::Bytes(ISO_8859_3)),
    ("iso_8859-3:1988", Table::Bytes(ISO_8859_3)),
    ("l3", Table::Bytes(ISO_8859_3)),
    ("latin3", Table::Bytes(ISO_8859_3)),
    ("csisolatin4", Table::Bytes(ISO_8859_4)),
    ("iso-8859-4", Table::Bytes(ISO_8859_4)),
    ("iso-ir-110", Table::Bytes(ISO_8859_4)),
    ("iso_8859-4", Table::Bytes(ISO_8859_4)),
    ("iso_8859-4:1988", Table::Bytes(ISO_8859_4)),
    ("l4", Table::Bytes(ISO_8859_4)),
    ("latin4", Table::Bytes(ISO_8859_4)),
    ("csisolatincyrillic", Table::Bytes(ISO_8859_5)),
    ("cyrillic", Table::Bytes(ISO_8859_5)),
    ("iso-8859-5", Table::Bytes(ISO_8859_5)),
    ("iso-ir-144", Table::Bytes(ISO_8859_5)),
    ("iso_8859-5", Table::Bytes(ISO_8859_5)),
    ("iso_8859-5:1988", Table::Bytes(ISO_8859_5)),
    ("arabic", Table::Bytes(ISO_8859_6)),
    ("asmo-708", Table::Bytes(ISO_8859_6)),
    ("csisolatinarabic", Table::Bytes(ISO_8859_6)),
    ("ecma-114", Table::Bytes(ISO_8859_6)),
    ("iso-8859-6", Table::Bytes(ISO_8859_6)),
    ("iso-ir-127", Table::Bytes(ISO_8859_6)),
    ("iso_8859-6", Table::Bytes(ISO_8859_6)),
    ("iso_8859-6:1987", Table::Bytes(ISO_8859_6)),
    ("csisolatingreek", Table::Bytes(ISO_8859_7)),
    ("ecma-118", Table::Bytes(ISO_8859_7)),
    ("elot_928", Table::Bytes(ISO_8859_7)),
    ("greek", Table::Bytes(ISO_8859_7)),
    ("greek8", Table::Bytes(ISO_8859_7)),
    ("iso-8859-7", Table::Bytes(ISO_8859_7)),
    ("iso-ir-126", Table::Bytes(ISO_8859_7)),
    ("iso_8859-7", Table::Bytes(ISO_8859_7)),
    ("iso_8859-7:1987", Table::Bytes(ISO_8859_7)),
    ("csisolatinhebrew", Table::Bytes(ISO_8859_8)),
    ("hebrew", Table::Bytes(ISO_8859_8)),
    ("iso-8859-8", Table::Bytes(ISO_8859_8)),
    ("iso-ir-138", Table::Bytes(ISO_8859_8)),
    ("iso_8859-8", Table::Bytes(ISO_8859_8)),
    ("iso_8859-8:1988", Table::Bytes(ISO_8859_8)),
    ("csisolatin5", Table::Bytes(ISO_8859_9)),
    ("iso-8859-9", Table::Bytes(ISO_8859_9)),
    ("iso-ir-148", Table::Bytes(ISO_8859_9)),
    ("iso_8859-9", Table::Bytes(ISO_8859_9)),
    ("iso_8859-9:1989", Table::Bytes(ISO_8859_9)),
    ("l5", Table::Bytes(ISO_8859_9)),
    ("latin5", Table::Bytes(ISO_8859_9)),
    ("csisolatin6", Table::Bytes(ISO_8859_10)),
    ("iso-8859-10", Table::Bytes(ISO_8859_10)),
    ("iso-ir-157", Table::Bytes(ISO_8859_10)),
    ("iso_8859-10:1992", Table::Bytes(ISO_8859_10)),
    ("l6", Table::Bytes(ISO_8859_10)),
    ("latin6", Table::Bytes(ISO_8859_10)),
    ("csshiftjis", Table::ShiftJis),
    ("ms_kanji", Table::ShiftJis),
    ("shift_jis", Table::ShiftJis),
    ("cseucpkdfmtjapanese", Table::EucJp),
    ("euc-jp", Table::EucJp),
    ("extended_unix_code_packed_format_for_japanese", Table::EucJp),
    ("cseuckr", Table::EucKr),
    ("euc-kr", Table::EucKr),
    ("csiso2022jp", Table::Iso2022Jp),
    ("iso-2022-jp", Table::Iso2022Jp),
    ("csiso88596e", Table::Bytes(ISO_8859_6)),
    ("iso-8859-6-e", Table::Bytes(ISO_8859_6)),
    ("iso_8859-6-e", Table::Bytes(ISO_8859_6)),
    ("csiso88596i", Table::Bytes(ISO_8859_6)),
    ("iso-8859-6-i", Table::Bytes(ISO_8859_6)),
    ("iso_8859-6-i", Table::Bytes(ISO_8859_6)),
    ("csiso88598e", Table::Bytes(ISO_8859_8)),
    ("iso-8859-8-e", Table::Bytes(ISO_8859_8)),
    ("iso_8859-8-e", Table::Bytes(ISO_8859_8)),
    ("csiso88598i", Table::Bytes(ISO_8859_8)),
    ("iso-8859-8-i", Table::Bytes(ISO_8859_8)),
    ("iso_8859-8-i", Table::Bytes(ISO_8859_8)),
    ("csutf8", Table::Utf8),
    ("utf-8", Table::Utf8),
    ("csiso885913", Table::Bytes(ISO_8859_13)),
    ("iso-8859-13", Table::Bytes(ISO_8859_13)),
    ("csiso885914", Table::Bytes(ISO_8859_14)),
    ("iso-8859-14", Table::Bytes(ISO_8859_14)),
    ("iso-celtic", Table::Bytes(ISO_8859_14)),
    ("iso-ir-199", Table::Bytes(ISO_8859_14)),
    ("iso_8859-14", Table::Bytes(ISO_8859_14)),
    ("iso_8859-14:1998", Table::Bytes(ISO_8859_14)),
    ("l8", Table::Bytes(ISO_8859_14)),
    ("latin8", Table::Bytes(ISO_8859_14)),
    ("csiso885915", Table::Bytes(ISO_8859_15)),
    ("iso-8859-15", Table::Bytes(ISO_8859_15)),
    ("iso_8859-15", Table::Bytes(ISO_8859_15)),
    ("latin-9", Table::Bytes(ISO_8859_15)),
    ("csiso885916", Table::Bytes(ISO_8859_16)),
    ("iso-8859-16", Table::Bytes(ISO_8859_16)),
    ("iso-ir-226", Table::Bytes(ISO_8859_16)),
    ("iso_8859-16", Table::Bytes(ISO_8859_16)),
    ("iso_8859-16:2001", Table::Bytes(ISO_8859_16)),
    ("l10", Table::Bytes(ISO_8859_16)),
    ("latin10", Table::Bytes(ISO_8859_16)),
    ("cp936", Table::Gbk),
    ("csgbk", Table::Gbk),
    ("gbk", Table::Gbk),
    ("ms936", Table::Gbk),
    ("windows-936", Table::Gbk),
    ("csgb18030", Table::Gb18030),
    ("gb18030", Table::Gb18030),
    ("csutf16be", Table::Utf16Be),
    ("utf-16be", Table::Utf16Be),
    ("csutf16le", Table::Utf16Le),
    ("utf-16le", Table::Utf16Le),
    ("csutf16", Table::Utf16),
    ("utf-16", Table::Utf16),
    ("850", Table::Bytes(IBM_CODE_PAGE_850)),
    ("cp850", Table::Bytes(IBM_CODE_PAGE_850)),
    ("cspc850multilingual", Table::Bytes(IBM_CODE_PAGE_850)),
    ("ibm850", Table::Bytes(IBM_CODE_PAGE_850)),
    ("852", Table::Bytes(IBM_CODE_PAGE_852)),
    ("cp852", Table::Bytes(IBM_CODE_PAGE_852)),
    ("cspcp852", Table::Bytes(IBM_CODE_PAGE_852)),
    ("ibm852", Table::Bytes(IBM_CODE_PAGE_852)),
    ("437", Table::Bytes(IBM_CODE_PAGE_437)),
    ("cp437", Table::Bytes(IBM_CODE_PAGE_437)),
    ("cspc8codepage437", Table::Bytes(IBM_CODE_PAGE_437)),
    ("ibm437", Table::Bytes(IBM_CODE_PAGE_437)),
    ("862", Table::Bytes(IBM_CODE_PAGE_862)),
    ("cp862", Table::Bytes(IBM_CODE_PAGE_862)),
    ("cspc862latinhebrew", Table::Bytes(IBM_CODE_PAGE_862)),
    ("ibm862", Table::Bytes(IBM_CODE_PAGE_862)),
    ("big5", Table::Big5),
    ("csbig5", Table::Big5),
    ("csmacintosh", Table::Bytes(MACINTOSH)),
    ("mac", Table::Bytes(MACINTOSH)),
    ("macintosh", Table::Bytes(MACINTOSH)),
    ("cp037", Table::Bytes(IBM_CODE_PAGE_037)),
    ("csibm037", Table::Bytes(IBM_CODE_PAGE_037)),
    ("ebcdic-cp-ca", Table::Bytes(IBM_CODE_PAGE_037)),
    ("ebcdic-cp-nl", Table::Bytes(IBM_CODE_PAGE_037)),
    ("ebcdic-cp-us", Table::Bytes(IBM_CODE_PAGE_037)),
    ("ebcdic-cp-wt", Table::Bytes(IBM_CODE_PAGE_037)),
    ("ibm037", Table::Bytes(IBM_CODE_PAGE_037)),
    ("855", Table::Bytes(IBM_CODE_PAGE_855)),
    ("cp855", Table::Bytes(IBM_CODE_PAGE_855)),
    ("csibm855", Table::Bytes(IBM_CODE_PAGE_855)),
    ("ibm855", Table::Bytes(IBM_CODE_PAGE_855)),
    ("860", Table::Bytes(IBM_CODE_PAGE_860)),
    ("cp860", Table::Bytes(IBM_CODE_PAGE_860)),
    ("csibm860", Table::Bytes(IBM_CODE_PAGE_860)),
    ("ibm860", Table::Bytes(IBM_CODE_PAGE_860)),
    ("863", Table::Bytes(IBM_CODE_PAGE_863)),
    ("cp863", Table::Bytes(IBM_CODE_PAGE_863)),
    ("csibm863", Table::Bytes(IBM_CODE_PAGE_863)),
    ("ibm863", Table::Bytes(IBM_CODE_PAGE_863)),
    ("865", Table::Bytes(IBM_CODE_PAGE_865)),
    ("cp865", Table::Bytes(IBM_CODE_PAGE_865)),
    ("csibm865", Table::Bytes(IBM_CODE_PAGE_865)),
    ("ibm865", Table::Bytes(IBM_CODE_PAGE_865)),
    ("cskoi8r", Table::Bytes(KOI8_R)),
    ("koi8-r", Table::Bytes(KOI8_R)),
    ("hz-gb-2312", Table::Hz),
    ("866", Table::Bytes(IBM_CODE_PAGE_866)),
    ("cp866", Table::Bytes(IBM_CODE_PAGE_866)),
    ("csibm866", Table::Bytes(IBM_CODE_PAGE_866)),
    ("ibm866", Table::Bytes(IBM_CODE_PAGE_866)),
    ("cskoi8u", Table::Bytes(KOI8_U)),
    ("koi8-u", Table::Bytes(KOI8_U)),
    ("ccsid00858", Table::Bytes(WINDOWS_CODE_PAGE_858)),
    ("cp00858", Table::Bytes(WINDOWS_CODE_PAGE_858)),
    ("csibm00858", Table::Bytes(WINDOWS_CODE_PAGE_858)),
    ("ibm00858", Table::Bytes(WINDOWS_CODE_PAGE_858)),
    ("pc-multilingual-850+euro", Table::Bytes(WINDOWS_CODE_PAGE_858)),
    ("ccsid01140", Table::Bytes(IBM_CODE_PAGE_1140)),
    ("cp01140", Table::Bytes(IBM_CODE_PAGE_1140)),
    ("csibm01140", Table::Bytes(IBM_CODE_PAGE_1140)),
    ("ebcdic-us-37+euro", Table::Bytes(IBM_CODE_PAGE_1140)),
    ("ibm01140", Table::Bytes(IBM_CODE_PAGE_1140)),
    ("csibm1047", Table::Bytes(IBM_CODE_PAGE_1047)),
    ("ibm-1047", Table::Bytes(IBM_CODE_PAGE_1047)),
    ("ibm1047", Table::Bytes(IBM_CODE_PAGE_1047)),
    ("cswindows874", Table::Bytes(WINDOWS_874)),
    ("windows-874", Table::Bytes(WINDOWS_874)),
    ("cswindows1250", Table::Bytes(WINDOWS_1250)),
    ("windows-1250", Table::Bytes(WINDOWS_1250)),
    ("cswindows1251", Table::Bytes(WINDOWS_1251)),
    ("windows-1251", Table::Bytes(WINDOWS_1251)),
    ("cswindows1252", Table::Bytes(WINDOWS_1252)),
    ("windows-1252", Table::Bytes(WINDOWS_1252)),
    ("cswindows1253", Table::Bytes(WINDOWS_1253)),
    ("windows-1253", Table::Bytes(WINDOWS_1253)),
    ("cswindows1254", Table::Bytes(WINDOWS_1254)),
    ("windows-1254", Table::Bytes(WINDOWS_1254)),
    ("cswindows1255", Table::Bytes(WINDOWS_1255)),
    ("windows-1255", Table::Bytes(WINDOWS_1255)),
    ("cswindows1256", Table::Bytes(WINDOWS_1256)),
    ("windows-1256", Table::Bytes(WINDOWS_1256)),
    ("cswindows1257", Table::Bytes(WINDOWS_1257)),
    ("windows-1257", Table::Bytes(WINDOWS_1257)),
    ("cswindows1258", Table::Bytes(WINDOWS_1258)),
    ("windows-1258", Table::Bytes(WINDOWS_1258)),
];
